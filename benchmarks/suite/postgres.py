"""One PostgreSQL of the suite's own, in a directory of ours and never as root: what storage on one machine can do.

Its settings are its defaults (fsync and synchronous_commit on), but for the sockets, which lie in the directory, and
the number of connections.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import Any

from twisted.internet.utils import getProcessOutputAndValue

from benchmarks.process import Child, StartError
from benchmarks.suite.missing import MissingProgramError
from benchmarks.usage import Watched, descendants

_START_SECONDS = 60.0
_CONNECTIONS_MAX = 300
#: Debian keeps the server's programs out of the path.
_DEBIAN = Path("/usr/lib/postgresql")
#: Who it runs as where we are root; PostgreSQL refuses to be root.
_ACCOUNTS = ("postgres", "nobody")


class PostgresError(Exception):
    """The world's fault: one of PostgreSQL's programs failed."""


class Postgres:
    """A server with one database. Raises MissingProgramError when it is made where there is no PostgreSQL."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self._bin = programs()
        self._directory = directory
        self._prefix = _unprivileged(directory)
        data = directory / "data"
        options = [
            f"-cunix_socket_directories={directory}",
            "-clisten_addresses=",
            f"-cmax_connections={_CONNECTIONS_MAX}",
        ]
        command = [*self._prefix, str(self._bin / "postgres"), "-D", str(data), *options]
        self._server = Child(reactor, command, directory / "postgres.log")

    async def start(self) -> None:
        """Make the database and serve. Raises StartError and PostgresError."""
        await self.run("initdb", "-D", str(self._directory / "data"), "--auth=trust", "--username=bench", "--no-locale")
        self._server.start()
        await self._server.until(self._answers, _START_SECONDS)

    async def stop(self) -> None:
        """Stop the server."""
        await self._server.stop()

    def processes(self) -> list[Watched]:
        """Return the server and its children as they are now; each client's own is not there before the client."""
        return [Watched("postgres", "postgres", pid) for pid in descendants(self._server.pid)]

    async def run(self, program: str, *arguments: str) -> str:
        """Run one of its programs to the end and return what it printed. Raises PostgresError."""
        command = [*self._prefix, str(self._bin / program), *arguments]
        environment = {**os.environ, "PGHOST": str(self._directory), "PGUSER": "bench", "PGDATABASE": "postgres"}
        out, err, code = await getProcessOutputAndValue(
            command[0], command[1:], environment, str(self._directory), self._reactor
        )
        if code:
            raise PostgresError(f"{program} ended with {code}: {err.decode(errors='replace').strip()[-500:]}")
        printed: str = out.decode(errors="replace")
        return printed

    async def sql(self, *statements: str) -> str:
        """Do statements, each in a transaction of its own; psql's own commands as well."""
        arguments = [argument for statement in statements for argument in ("-c", statement)]
        return await self.run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *arguments)

    async def _answers(self) -> bool:
        try:
            return (await self.sql("select 1")).strip() == "1"
        except PostgresError:
            return False


def programs() -> Path:
    """Return the directory of the newest server's programs. Raises MissingProgramError."""
    found = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if (program := shutil.which("postgres")) is not None:
        return Path(program).parent
    raise MissingProgramError("postgres", "postgresql")


def _unprivileged(directory: Path) -> list[str]:
    """Return what a command begins with so as not to be root's, and give that account the directory."""
    if os.geteuid() != 0:
        return []
    account = next((name for name in _ACCOUNTS if name in {one.pw_name for one in pwd.getpwall()}), None)
    if account is None:
        raise StartError(f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}")
    os.chown(directory, pwd.getpwnam(account).pw_uid, -1)
    directory.parent.chmod(0o711)
    setpriv = shutil.which("setpriv") or "setpriv"
    return [setpriv, f"--reuid={account}", f"--regid={pwd.getpwnam(account).pw_gid}", "--clear-groups", "--"]
