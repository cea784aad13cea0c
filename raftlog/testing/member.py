"""One replica of an in-memory group: a real core, its disk, and a state machine that keeps what it applied."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from raftlog.confchange import decode_change
from raftlog.messages import APPEND_THREAD, APPLY_THREAD, Entry, EntryType, Message, MessageType, Snapshot
from raftlog.rawnode import RawNode
from raftlog.state import Config, ReadState
from raftlog.storage import MemoryLog

_NO_LIMIT = 1 << 62


class Member:
    """One replica.

    While `disk_is_slow` writes are handed out but stay in `writes` until `write` is called; what depends on them does
    not leave. `log` is what is durable.
    """

    def __init__(self, settings: Config, log: MemoryLog, rng: random.Random) -> None:
        self.id = settings.replica_id
        self.log = log
        self.raw = RawNode(settings, log, rng)
        self._settings = settings
        self._rng = rng
        self.applied: list[Entry] = []
        self.read_states: list[ReadState] = []
        self.disk_is_slow = False
        self.writes: list[Message] = []

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries of the log, durable or not."""
        log = self.raw.raft.log
        return log.entries(log.first_index(), _NO_LIMIT)

    @property
    def terms(self) -> list[int]:
        """The terms of the entries of the log, as the paper's figures draw logs."""
        return [entry.term for entry in self.entries]

    @property
    def data(self) -> list[bytes]:
        """The data that was applied, without no-ops and changes of membership."""
        return [entry.data for entry in self.applied if entry.data and entry.type is EntryType.NORMAL]

    def handle_ready(self) -> list[Message]:
        """Handle one Ready and return what leaves for other replicas."""
        ready = self.raw.ready()
        self.read_states += ready.read_states
        outgoing = []
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                self.writes.append(message)
            elif message.to == APPLY_THREAD:
                self._apply(message)
            elif message.type is MessageType.SNAPSHOT:
                outgoing.append(msgspec.structs.replace(message, snapshot=self._newest_state()))
            else:
                outgoing.append(message)
        return outgoing if self.disk_is_slow else outgoing + self.write()

    def _newest_state(self) -> Snapshot:
        """Return what is sent for a snapshot: not the last compaction, as the core has it, but the present state."""
        index = self.raw.raft.log.applied
        return Snapshot(index, self.log.term(index), self.log.conf_state_at(index))

    def _apply(self, message: Message) -> None:
        for entry in message.entries:
            if entry.type is not EntryType.NORMAL:
                self.log.note_conf_state(entry.index, self.raw.apply_conf_change(decode_change(entry)))
        self.applied += message.entries
        for response in message.responses:
            self.raw.step(response)

    def write(self) -> list[Message]:
        """Do the writes that were handed out, in order; return what leaves now that they are durable."""
        outgoing = []
        writes, self.writes = self.writes, []
        for message in writes:
            self.log.store(message)
            for response in message.responses:
                if response.to == self.id:
                    self.raw.step(response)
                else:
                    outgoing.append(response)
        return outgoing

    def compact(self) -> None:
        """Drop the log up to what is applied."""
        self.log.compact(self.applied[-1].index, self.raw.conf_state())

    def crash(self) -> None:
        """Lose what is not durable and start again; the state machine is as it was."""
        applied_index = max(self.log.first_index() - 1, self.applied[-1].index if self.applied else 0)
        hard = self.log.hard_state
        self.log.hard_state = msgspec.structs.replace(hard, commit=max(hard.commit, applied_index))
        self.writes = []
        self.raw = RawNode(msgspec.structs.replace(self._settings, applied=applied_index), self.log, self._rng)
