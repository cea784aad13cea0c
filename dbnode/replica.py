"""One replica of a shard: a state machine over a store, replicated by a Raft group, and readable.

Commands come in through the group's log and in no other way (see dbnode.machine). Reads look at the store; whether it
is new enough to be read is decided by who asks (see dbnode.serving).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

from dbnode.apply import apply_items
from dbnode.changes import Image, Page
from dbnode.machine import Item, Machine, Outcome, command_from_bytes
from dbnode.schema import Schema, rows_to_json, rows_to_lines
from dbnode.store import Answer, Export, Import, RunInThread, SnapshotStore, StoreUnavailable
from dbnode.wire import Rows
from raftlog.messages import Entry, EntryType
from raftlog.transfer import TransferFailed

#: The most bytes of rows in one reply: far below a frame, and encoded in a few milliseconds.
PAGE_BYTES_MAX = 4 << 20


#: Entries of so many bytes are decoded on the spot, in a millisecond or two; more in a thread.
DECODE_INLINE_BYTES_MAX = 256 << 10


class Replica:
    """A raftlog StateMachine. `open` comes first; the group is opened after it.

    `in_thread` decodes what is long, so that it holds up no heartbeat; by default it does so on the spot.
    """

    def __init__(
        self,
        group_id: int,
        replica_id: int,
        shard: str,
        schema: Schema,
        store: SnapshotStore,
        in_thread: RunInThread = execute,
    ) -> None:
        self.group_id = group_id
        self.replica_id = replica_id
        self.shard = shard
        self.schema = schema
        self.store = store
        #: Whether a read round ended here since the start: before that not even a stale read is answered.
        self.caught_up = False
        self._machine = Machine()
        self._in_thread = in_thread

    async def open(self) -> None:
        """Make the store ready and take over what it holds. Fails with WrongFile or another StoreError."""
        opened = self.store.open()
        image: Image = await opened if isinstance(opened, Deferred) else opened
        self._machine.restore(image)

    @property
    def applied_index(self) -> int:
        """The index of the last entry in the store."""
        return self._machine.position.applied_index

    @property
    def row_count(self) -> int:
        """How many rows the shard has here."""
        return self._machine.position.row_count

    def apply(self, entries: Sequence[Entry]) -> Sequence[Outcome] | Deferred[Sequence[Any]]:
        """Apply committed entries in one transaction; the outcome of an entry without a command is empty."""
        if sum([len(entry.data) for entry in entries]) <= DECODE_INLINE_BYTES_MAX:
            return self._apply(self._items(entries))  # type: ignore[no-any-return]
        return self._in_thread(lambda: self._items(entries)).addCallback(self._apply)

    def _items(self, entries: Sequence[Entry]) -> list[Item]:
        return [
            (
                entry.index,
                command_from_bytes(self.schema, entry.data) if entry.data and entry.type is EntryType.NORMAL else None,
            )
            for entry in entries
        ]

    def _apply(self, items: list[Item]) -> Any:
        return apply_items(self._machine, self.store, items)

    def make_durable(self) -> Deferred[int]:
        """See raftlog.statemachine.StateMachine."""
        return self.store.make_durable()

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Begin a copy of rows, sessions and keys as they are now.

        It fails with TransferFailed while the store cannot be reached: the copy is tried again, and nothing is lost.
        """
        return self.store.export(chunk_bytes).addCallbacks(_ReplicaExport, _not_now)

    def begin_import(self) -> Import:
        """Begin to take in another replica's copy."""
        return _MachineImport(self.store.begin_import(), self._machine)

    def read(
        self, request_id: int, low: int, high: int, limit: int, bytes_max: int, as_lines: bool = False
    ) -> Answer[Rows]:
        """Return a page of the rows low..high as the store has them now."""
        bytes_max = min(bytes_max or PAGE_BYTES_MAX, PAGE_BYTES_MAX)
        page = self.store.scan(low, high, limit, bytes_max)
        if not isinstance(page, Page):
            return page.addCallback(self._rows, request_id, as_lines)
        return self._rows(page, request_id, as_lines)

    def _rows(self, page: Page, request_id: int, as_lines: bool) -> Rows:
        encode = rows_to_lines if as_lines else rows_to_json
        return Rows(request_id, len(page.rows), encode(self.schema, page.rows), page.next)


class _ReplicaExport:
    """A copy on its way out of a store that may become unreachable meanwhile."""

    def __init__(self, export: Export) -> None:
        self._export = export

    @property
    def applied_index(self) -> int:
        return self._export.applied_index

    def next_chunk(self) -> Deferred[bytes | None]:
        return self._export.next_chunk().addErrback(_not_now)

    def close(self) -> Deferred[None]:
        return self._export.close()


def _not_now(failure: Failure) -> NoReturn:
    if failure.check(StoreUnavailable):
        raise TransferFailed(failure.getErrorMessage())
    failure.raiseException()


class _MachineImport:
    """A copy on its way into a store, whose state the machine takes over in the end."""

    def __init__(self, content: Import, machine: Machine) -> None:
        self._content = content
        self._machine = machine

    def write(self, chunk: bytes) -> Deferred[None]:
        return self._content.write(chunk)

    def finish(self) -> Deferred[Image]:
        return self._content.finish().addCallback(self._take_over)

    def _take_over(self, image: Image) -> Image:
        self._machine.restore(image)
        return image

    def abort(self) -> Deferred[None]:
        return self._content.abort()
