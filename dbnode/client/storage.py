"""What `--storage` may say, to a server as to a balancer that starts servers."""

from __future__ import annotations

from typing import Final

SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"
#: How a DSN of a PostgreSQL that runs already begins (PostgreSQL, "Connection URIs").
_DSN = ("postgresql://", "postgres://")


def storage_from_text(text: str) -> str:
    """Return a storage, or raise ValueError: a DSN is checked by its beginning only."""
    if text in (SQLITE, POSTGRES) or is_dsn(text):
        return text
    raise ValueError(f"it must be {SQLITE}, {POSTGRES}, or {_DSN[0]}... for a PostgreSQL that runs already")


def is_dsn(text: str) -> bool:
    """Return whether a storage is a PostgreSQL that others may use as well."""
    return text.startswith(_DSN)
