"""What must be there after a stream of updates: which rows, but not their values, for the order of updates is open."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from benchmarks.verify import Copy, described


@dataclass(frozen=True, slots=True)
class Present:
    """Rows whose `key` column is in `stored` must be there, in `unknown` may be, and no others."""

    key: str
    stored: Set[int]
    unknown: Set[int]

    def copy_of(self, rows: list[Any]) -> Copy:
        """Return the rows as they came by their ids."""
        return {row[self.key]: row for row in rows}

    def unaccounted(self, rows: Copy) -> list[str]:
        """Return which rows are missing, and which nobody wrote."""
        return described(
            {
                "acknowledged but missing": [row_id for row_id in self.stored if row_id not in rows],
                "there but never written": [i for i in rows if i not in self.stored and i not in self.unknown],
            }
        )
