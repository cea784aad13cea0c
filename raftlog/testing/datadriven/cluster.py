"""The nodes of an interaction: real cores with their storage, and the storage work and messages between them.

Time, timeouts and delivery are whatever the case says. Each node's state machine appends text; every applied entry
leaves a snapshot, the newest of which is what the core gets when it asks for one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from raftlog.confchange import decode_change
from raftlog.messages import APPEND_THREAD, LOCAL_TARGETS, Entry, EntryType, Message, MessageType, Snapshot
from raftlog.rawnode import RawNode, Ready
from raftlog.state import Config
from raftlog.storage import MemoryLog


class FixedRandom(random.Random):
    """Draws the lowest number each time, so that every election timeout is the shortest."""

    def random(self) -> float:
        """Return 0."""
        return 0.0

    def getrandbits(self, k: int, /) -> int:
        """Return 0."""
        return 0


class NodeLog(MemoryLog):
    """A node's storage; its snapshot is always the state as of the last applied entry."""

    def __init__(self, start: Snapshot) -> None:
        super().__init__()
        self.history = [start]
        if start.index:
            self.apply_snapshot(start)

    def snapshot(self) -> Snapshot:
        """Return the newest state."""
        return self.history[-1]

    def store(self, append: Message) -> None:
        """Take what is written; a snapshot becomes the newest state."""
        super().store(append)
        if append.snapshot is not None:
            self.history.append(append.snapshot)


class Node:
    """One core, its storage, and the storage work it has handed out and that waits to be done."""

    def __init__(self, config: Config, start: Snapshot) -> None:
        self.id = config.replica_id
        self._is_asynchronous = config.async_storage_writes
        self.log = NodeLog(start)
        self.raw = RawNode(config, self.log, FixedRandom())
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []

    def handle_ready(self) -> Ready:
        """Take a Ready and return it; its storage work is done at once or, if asynchronous, queued."""
        ready = self.raw.ready()
        if self._is_asynchronous:
            for message in ready.messages:
                if message.to in LOCAL_TARGETS:
                    (self.append_work if message.to == APPEND_THREAD else self.apply_work).append(message)
        else:
            self.log.store(_storage_append(ready))
            self._apply(ready.committed_entries)
            self.raw.advance()
        return ready

    def do_append_work(self) -> Message:
        """Do the oldest storage append and return it."""
        message = self.append_work.pop(0)
        self.log.store(message)
        return message

    def do_apply_work(self) -> Message:
        """Apply the oldest batch of committed entries and return its message."""
        message = self.apply_work.pop(0)
        self._apply(message.entries)
        return message

    def _apply(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            last = self.log.history[-1]
            conf_state, text = last.conf_state, entry.data
            if entry.type is not EntryType.NORMAL:
                change = decode_change(entry)
                conf_state, text = self.raw.apply_conf_change(change), change.context
            self.log.history.append(Snapshot(entry.index, entry.term, conf_state, last.data + text))


def _storage_append(ready: Ready) -> Message:
    """Return what a synchronous Ready wants written, as an asynchronous one would say it."""
    hard = ready.hard_state
    return Message(
        MessageType.STORAGE_APPEND,
        term=hard.term if hard else 0,
        vote=hard.vote if hard else 0,
        commit=hard.commit if hard else 0,
        entries=tuple(ready.entries),
        snapshot=ready.snapshot,
    )


class Cluster:
    """The nodes, numbered from 1, and the messages on their way in the order they were sent."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.in_flight: list[Message] = []

    def node(self, node_id: int) -> Node:
        """Return a node by its id."""
        return self.nodes[node_id - 1]

    def take(self, to: int, message_type: MessageType | None, *, dropping: bool) -> list[Message]:
        """Take the messages to a node (of one type) off their way; those of its own threads are never dropped."""
        taken: list[Message] = []
        left: list[Message] = []
        for message in self.in_flight:
            is_local = message.from_ == to or message.from_ in LOCAL_TARGETS
            wanted = message.to == to and message_type in (None, message.type) and not (dropping and is_local)
            (taken if wanted else left).append(message)
        self.in_flight = left
        return taken

    def waits_for(self, node_id: int) -> bool:
        """Return whether messages to a node are on their way."""
        return any(message.to == node_id for message in self.in_flight)
