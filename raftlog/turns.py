"""Turns: what all groups of a process have to write and to send after one turn of the reactor.

Everything they write becomes one submission to the write-ahead log (one fsync), everything they send goes to the
links, which put it into one frame per peer and lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from raftlog.link import Lane
from raftlog.messages import GroupMessage, HardState, Message, MessageType
from raftlog.snapshots import Snapshots
from raftlog.wal import Record, WriteAheadLog

if TYPE_CHECKING:
    from raftlog.group import Group
    from raftlog.sleep import Sleep

_CONTROL_TYPES = frozenset(
    (
        MessageType.VOTE,
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE,
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.HEARTBEAT,
        MessageType.HEARTBEAT_RESPONSE,
        MessageType.TIMEOUT_NOW,
    )
)


class Installation(NamedTuple):
    """A snapshot that the core took: the storage append that brings it, what waits for it, the hard state with it."""

    group: Group
    append: Message
    held: list[Message]
    hard_state: HardState


class Turn:
    """What the groups of a process have to write and to send after one reactor turn."""

    __slots__ = ("installations", "messages", "records", "written")

    def __init__(self) -> None:
        self.installations: list[Installation] = []
        self.records: list[Record] = []
        #: Whose storage append is among the records, with messages that wait for it besides its responses.
        self.written: list[tuple[Group, Message, list[Message]]] = []
        self.messages: list[tuple[Group, Message]] = []


class Turns:
    """Collects the turns of a process's groups, and carries them out.

    `send(server, lane, item)` gives an item to the links, False if it was dropped; `fatal` ends the process.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wal: WriteAheadLog,
        sleep: Sleep,
        send: Callable[[str, Lane, Any], bool],
        fatal: Callable[[Failure], None],
    ) -> None:
        self._clock = clock
        self._wal = wal
        self._sleep = sleep
        self._transmit = send
        self._fatal = fatal
        self.snapshots = Snapshots(clock, wal, self._give, installed=self._installed, wake=self.wake, fatal=fatal)
        self._awake: dict[int, Group] = {}
        self._call: IDelayedCall | None = None
        self._running = False
        self._writes_in_flight = 0

    def start(self) -> None:
        """Begin to take turns."""
        self._running = True

    def stop(self) -> None:
        """Take none any more."""
        self._running = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self.snapshots.stop()

    def wake(self, group: Group) -> None:
        """Let a group take part in the next turn, which comes soon: something happened to it."""
        if group.quiet.asleep:
            self._sleep.wake(group)
        self._awake[group.group_id] = group
        if self._call is None and self._running:
            self._call = self._clock.callLater(0, self._take)

    def forget(self, group_id: int) -> None:
        """Leave out a group that is no longer there."""
        self._awake.pop(group_id, None)

    def _take(self) -> None:
        self._call = None
        if self._wal.overloaded:
            # The groups stay awake; a finished write takes the next turn.
            return
        awake, self._awake = self._awake, {}
        now_seconds = self._clock.seconds()
        turn = Turn()
        try:
            for group in awake.values():
                group.collect(turn, now_seconds)
        except Exception:  # noqa: BLE001 - a core that contradicts itself must not go on
            self._fatal(Failure())
            return
        self._send(turn.messages)
        for installation in turn.installations:
            self.snapshots.install(installation)
        if turn.records or (turn.written and self._writes_in_flight):
            self._writes_in_flight += 1
            self._wal.submit(turn.records, lambda: self._write_done(turn))
        elif turn.written:
            # Nothing new to write and nothing being written: what was promised is durable already.
            self._writes_in_flight += 1
            self._write_done(turn)

    def _write_done(self, turn: Turn) -> None:
        self._writes_in_flight -= 1
        if not self._running:
            return
        try:
            self._written(turn)
        except Exception:  # noqa: BLE001 - as above
            self._fatal(Failure())
        if self._awake and self._call is None:
            self._call = self._clock.callLater(0, self._take)

    def _written(self, turn: Turn) -> None:
        after = Turn()
        for group, append, held in turn.written:
            group.durable(append, held, after)
        self._send(after.messages)

    def _installed(self, installation: Installation) -> None:
        after = Turn()
        installation.group.installed(installation.append, installation.held, after)
        self._send(after.messages)

    def _send(self, messages: list[tuple[Group, Message]]) -> None:
        for group, message in messages:
            if message.type is MessageType.SNAPSHOT:
                self.snapshots.start(group, message)
                continue
            lane = Lane.CONTROL if message.type in _CONTROL_TYPES else Lane.DATA
            if not self._give(group, message.to, lane, GroupMessage(group.group_id, message)):
                group.unreachable(message)

    def _give(self, group: Group, replica_id: int, lane: Lane, item: Any) -> bool:
        server = group.peers.get(replica_id)
        if server is None or not self._transmit(server, lane, item):
            return False
        self._sleep.sent(server)
        return True
