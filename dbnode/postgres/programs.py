"""Where PostgreSQL's programs are on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from dbnode.store import StoreError

#: Where distributions put them, one directory for each release, outside of the path.
_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
_NEEDED = ("initdb", "postgres")


class Programs(msgspec.Struct, frozen=True):
    """What makes and what runs a PostgreSQL, of one release."""

    initdb: Path
    postgres: Path


def find_programs(given: Path | None, path: str, release: str | None) -> Programs:
    """Return the programs in the directory `given`, else on the `path`, else where distributions put them.

    Of several releases the newest is taken, or `release` ("15") where there are files of that one already. StoreError
    says what is missing and how to get it.
    """
    if given is not None:
        found = _programs(str(given))
        if found is None:
            raise StoreError(f"{given} has no initdb and postgres: --postgres-programs must name PostgreSQL's folder")
        return found
    folders = sorted((folder for pattern in _PATTERNS for folder in Path("/").glob(pattern[1:])), key=_release)
    newest_first = [str(folder) for folder in reversed(folders) if release in (None, str(_release(folder)))]
    for searched in [path, *newest_first] if release is None else [*newest_first, path]:
        found = _programs(searched)
        if found is not None:
            return found
    which, package = (f" of release {release}", f"postgresql-{release}") if release else ("", "postgresql")
    raise StoreError(
        f"PostgreSQL's programs {' and '.join(_NEEDED)}{which} are neither on the path nor in {_PATTERNS[0]}: install"
        f" them (on Debian: apt-get install {package}), name their folder with --postgres-programs, or use a PostgreSQL"
        " that runs already with --storage postgresql://..."
    )


def _programs(path: str) -> Programs | None:
    initdb, postgres = [shutil.which(name, path=path) for name in _NEEDED]
    return Programs(Path(initdb), Path(postgres)) if initdb is not None and postgres is not None else None


def _release(folder: Path) -> int:
    digits = "".join(character for character in folder.parent.name if character.isdigit())
    return int(digits or 0)
