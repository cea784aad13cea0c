"""The snapshots of a process that are being sent, received and installed.

Installing is one transition (RAFT_RULES 9): the group stops handing out work, the intention is made durable, the
state machine's content is swapped, the log is reset to it, and only then the group goes on. A restart at any point in
between finds either the old content with the old log, or the new content and the intention (see raftlog.opening).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftlog.link import Lane
from raftlog.messages import Message, Snapshot, SnapshotAck, SnapshotChunk
from raftlog.storage import Compacted
from raftlog.transfer import CHUNK_BYTES, OUTGOING_MAX, Export, Incoming, Outgoing, TransferFailed
from raftlog.wal import Appended, Record, SnapshotIncoming, SnapshotInstalled, WriteAheadLog

if TYPE_CHECKING:
    from raftlog.group import Group
    from raftlog.turns import Installation


class Snapshots:
    """Carries snapshots for the groups of one Node.

    `send(group, replica_id, lane, item)` gives an item to the links, False if it was dropped; `installed` is told
    of each installation that is durable; `wake` gives a group its next turn; `fatal` ends the process.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wal: WriteAheadLog,
        send: Callable[[Group, int, Lane, Any], bool],
        *,
        installed: Callable[[Installation], None],
        wake: Callable[[Group], None],
        fatal: Callable[[Failure], None],
    ) -> None:
        self._clock = clock
        self._wal = wal
        self._send = send
        self._installed = installed
        self._wake = wake
        self._fatal = fatal
        self._outgoing: dict[tuple[int, int], Outgoing] = {}
        self._incoming: dict[int, Incoming] = {}
        self._transfers = 0

    # ---- out --------------------------------------------------------------------------------------------------

    def start(self, group: Group, message: Message) -> None:
        """Send the copy that a SNAPSHOT message asks for; the core hears how it went."""
        key = (group.group_id, message.to)
        if key in self._outgoing or len(self._outgoing) >= OUTGOING_MAX:
            self._report(group, message.to, ok=False)
            return
        self._transfers += 1
        # Taken at once, so that two messages of one turn do not start two transfers.
        self._outgoing[key] = self._new_outgoing(group, message)
        _ = Deferred.fromCoroutine(self._run(group, message, key)).addErrback(self._fatal)

    def _new_outgoing(self, group: Group, message: Message) -> Outgoing:
        def send(chunk: SnapshotChunk) -> bool:
            return self._send(group, message.to, Lane.BULK, chunk)

        return Outgoing(self._clock, group.group_id, self._transfers, send)

    async def _run(self, group: Group, message: Message, key: tuple[int, int]) -> None:
        outgoing = self._outgoing[key]
        ok = False
        try:
            export = await group.machine.export(CHUNK_BYTES)
            snapshot = await _snapshot_of(group, export)
            group.holds.hold(message.to, snapshot.index)
            await outgoing.run(export, replace(message, snapshot=snapshot))
            ok = True
        except TransferFailed as failed:
            self._log.warn(
                "group {group_id}: replica {to} did not get its snapshot: {reason}",
                group_id=group.group_id,
                to=message.to,
                reason=str(failed),
            )
        except Exception:
            # The state machine of a replica that was destroyed ends its copies.
            if not group.has_stopped():
                raise
        finally:
            del self._outgoing[key]
            if not ok:
                group.holds.release(message.to)
            self._report(group, message.to, ok=ok)

    def _report(self, group: Group, replica_id: int, *, ok: bool) -> None:
        if group.has_stopped():
            return
        group.raw.report_snapshot(replica_id, ok)
        self._wake(group)

    def acknowledged(self, ack: SnapshotAck) -> None:
        """Take a receiver's answer."""
        outgoing = self._outgoing.get((ack.group_id, ack.from_))
        if outgoing is not None and outgoing.transfer_id == ack.transfer_id:
            outgoing.acknowledged(ack)

    # ---- in ---------------------------------------------------------------------------------------------------

    def arrived(self, group: Group, chunk: SnapshotChunk) -> None:
        """Take a chunk; a first one replaces whatever was arriving for the group."""
        incoming = self._incoming.get(group.group_id)
        if chunk.message is not None:
            if incoming is not None:
                incoming.drop("another snapshot comes in its place")
            incoming = self._begin(group, chunk)
        if incoming is not None and incoming.key == (chunk.from_, chunk.transfer_id):
            incoming.take(chunk)

    def _begin(self, group: Group, first: SnapshotChunk) -> Incoming | None:
        def acknowledge(number: int, refusal: str) -> None:
            ack = SnapshotAck(group.group_id, group.replica_id, first.from_, first.transfer_id, number, refusal)
            self._send(group, first.from_, Lane.DATA, ack)

        if group.arrived is not None:
            acknowledge(-1, "another snapshot is being installed")
            return None
        incoming = Incoming(
            self._clock,
            first,
            group.machine.begin_import,
            acknowledge,
            lambda message: self._complete(group, message),
            lambda: self._forget(group),
        )
        self._incoming[group.group_id] = incoming
        return incoming

    def _forget(self, group: Group) -> None:
        self._incoming.pop(group.group_id, None)

    def _complete(self, group: Group, message: Message) -> None:
        incoming = self._incoming.pop(group.group_id)
        if group.has_stopped():
            _ = incoming.content.abort()
            return
        group.arrived = incoming.content
        group.step(message)
        wanted = group.raw.raft.log.unstable.snapshot
        if wanted is None or message.snapshot is None or wanted.index != message.snapshot.index:
            # The core has it all already, or follows somebody else by now.
            group.arrived = None
            _ = incoming.content.abort()

    def install(self, installation: Installation) -> None:
        """Put an arrived snapshot in the place of a group's state."""
        _ = Deferred.fromCoroutine(self._install(installation)).addErrback(self._fatal)

    async def _install(self, installation: Installation) -> None:
        group, append, _, hard_state = installation
        content, snapshot = group.arrived, append.snapshot
        assert content is not None and snapshot is not None
        await group.idle()
        if group.has_stopped():
            await content.abort()
            return
        await self._write([SnapshotIncoming(group.group_id, snapshot)])
        try:
            await content.finish()
        except Exception:
            # So may the state machine of a replica that was destroyed meanwhile.
            if not group.has_stopped():
                raise
        if group.has_stopped():
            # The log knows the replica no more.
            group.arrived = None
            return
        records: list[Record] = [SnapshotInstalled(group.group_id, snapshot, hard_state)]
        if append.entries:
            records.append(Appended(group.group_id, None, append.entries))
        await self._write(records)
        # Not before: the core waits for this one until now, and would take another copy of it for the same.
        group.arrived = None
        self._log.info(
            "group {group_id}: replica {replica_id} installed a snapshot up to entry {index}",
            group_id=group.group_id,
            replica_id=group.replica_id,
            index=snapshot.index,
        )
        self._installed(installation)

    def _write(self, records: Sequence[Record]) -> Deferred[None]:
        written: Deferred[None] = Deferred()
        self._wal.submit(records, lambda: written.callback(None))
        return written

    def stop(self) -> None:
        """Give up what is on its way."""
        for outgoing in list(self._outgoing.values()):
            outgoing.give_up("this server stops")
        for incoming in list(self._incoming.values()):
            incoming.drop("this server stops")


async def _snapshot_of(group: Group, export: Export) -> Snapshot:
    """Return what a copy is a copy of; TransferFailed if the log was compacted past it while it was begun."""
    index = export.applied_index
    try:
        return Snapshot(index, group.log.term(index), group.log.conf_state_at(index))
    except Compacted as error:
        await export.close()
        raise TransferFailed(f"the copy is too old already: {error}") from error
