"""What a group replicates, as its replicas see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from raftlog.messages import Entry
from raftlog.transfer import Export, Import


class StateMachine(Protocol):
    """What a group replicates. It is owned by one Group and never called twice at a time."""

    @property
    def applied_index(self) -> int:
        """The index of the last entry in the state, as it would be found after a restart of the process."""

    def apply(self, entries: Sequence[Entry]) -> Sequence[Any] | Deferred[Sequence[Any]]:
        """Apply committed entries, which follow applied_index without a gap, and return a result for each.

        Entries without data (a new leader's no-op) and configuration changes change only the applied index; their
        results are ignored. Rows and applied index change together or not at all. An exception ends the process:
        a replica that cannot apply must not go on.
        """

    def make_durable(self) -> Deferred[int]:
        """Bring what was applied to the disk; fires with an index up to which all of it certainly is."""

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a consistent copy of everything applied, in chunks of about `chunk_bytes`."""

    def begin_import(self) -> Import:
        """Begin to take in another replica's copy; applying goes on until its `finish`."""
