"""Changes of membership as pure functions of a configuration (Raft §6, thesis §4).

A simple change adds, removes or demotes at most one voter; anything larger goes through a joint configuration. What
is asked for twice, or for a replica that is not there, changes nothing: entries may be applied again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from raftlog.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
)
from raftlog.progress import Inflights, Progress
from raftlog.tracker import Membership, Tracker

_encode = msgspec.msgpack.Encoder().encode
_decode_v1 = msgspec.msgpack.Decoder(ConfChange).decode
_decode_v2 = msgspec.msgpack.Decoder(ConfChangeV2).decode


class ConfChangeError(Exception):
    """The change can't be applied to this configuration."""


def encode_change(change: ConfChange | ConfChangeV2) -> tuple[EntryType, bytes]:
    """Return the type and data of the entry that carries `change`."""
    if isinstance(change, ConfChange):
        return EntryType.CONF_CHANGE, _encode(change)
    return EntryType.CONF_CHANGE_V2, _encode(change) if change != ConfChangeV2() else b""


def decode_change(entry: Entry) -> ConfChangeV2:
    """Return the change that `entry` carries; an entry without data leaves the joint configuration."""
    if entry.type is EntryType.CONF_CHANGE:
        change = _decode_v1(entry.data)
        return ConfChangeV2(changes=(ConfChangeSingle(change.type, change.replica_id),), context=change.context)
    return _decode_v2(entry.data) if entry.data else ConfChangeV2()


class Changer:
    """Computes the configuration that follows from a tracker's; the tracker itself is left as it is.

    `new_window` makes the window of a replica that joins; `last_index` is where probing it begins.
    """

    def __init__(self, tracker: Tracker, last_index: int, new_window: Callable[[], Inflights]) -> None:
        membership = tracker.membership
        self._was = membership
        self._incoming = set(membership.incoming)
        self._outgoing = set(membership.outgoing)
        self._learners = set(membership.learners)
        self._learners_next = set(membership.learners_next)
        self._progress = dict(tracker.progress)
        #: Whether each replica is a learner; written back to the progress only once everything is checked.
        self._is_learner = {i: p.is_learner for i, p in tracker.progress.items()}
        self._last_index = last_index
        self._dry = False
        self._new_window = new_window

    def change(self, change: ConfChangeV2) -> Tracker:
        """Return the tracker after `change`: leaves, enters a joint configuration, or changes one replica."""
        if not change.changes and change.transition is ConfChangeTransition.AUTO:
            return self.leave_joint()
        if change.transition is not ConfChangeTransition.AUTO or len(change.changes) > 1:
            return self.enter_joint(change.changes, auto_leave=change.transition is not ConfChangeTransition.EXPLICIT)
        return self.simple(change.changes)

    def simple(self, changes: Iterable[ConfChangeSingle]) -> Tracker:
        """Return the tracker after changes that alter at most one voter."""
        if self._outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        self._apply(changes)
        if len(self._was.incoming ^ self._incoming) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        return self._tracker(auto_leave=self._was.auto_leave)

    def enter_joint(self, changes: Iterable[ConfChangeSingle], *, auto_leave: bool) -> Tracker:
        """Return the tracker of the joint configuration from the present voters to the changed ones."""
        if self._outgoing:
            raise ConfChangeError("config is already joint")
        if not self._incoming:
            raise ConfChangeError("can't make a zero-voter config joint")
        self._outgoing = set(self._incoming)
        self._apply(changes)
        return self._tracker(auto_leave=auto_leave)

    def leave_joint(self) -> Tracker:
        """Return the tracker in which only the new half of a joint configuration is left."""
        if not self._outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        for replica_id in self._learners_next:
            self._learners.add(replica_id)
            self._is_learner[replica_id] = True
        self._learners_next = set()
        gone = self._outgoing - self._incoming - self._learners
        self._outgoing = set()
        for replica_id in gone:
            del self._progress[replica_id]
        return self._tracker(auto_leave=False)

    def _apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if not change.replica_id:
                continue
            if change.type is ConfChangeType.ADD_VOTER:
                self._make_voter(change.replica_id)
            elif change.type is ConfChangeType.ADD_LEARNER:
                self._make_learner(change.replica_id)
            elif change.type is ConfChangeType.REMOVE:
                self._remove(change.replica_id)
        if not self._incoming:
            raise ConfChangeError("removed all voters")

    def _join(self, replica_id: int, *, is_learner: bool) -> None:
        if replica_id not in self._progress:
            # A replica that joins counts as active, so that the next check of the quorum does not depose the leader
            # before it could answer.
            self._progress[replica_id] = Progress(
                0, max(self._last_index, 1), self._new_window(), is_learner=is_learner, recent_active=True
            )
        self._is_learner[replica_id] = is_learner

    def _make_voter(self, replica_id: int) -> None:
        self._join(replica_id, is_learner=False)
        self._learners.discard(replica_id)
        self._learners_next.discard(replica_id)
        self._incoming.add(replica_id)

    def _make_learner(self, replica_id: int) -> None:
        self._incoming.discard(replica_id)
        self._learners_next.discard(replica_id)
        if replica_id in self._outgoing:
            # It is a voter still; it becomes a learner when the joint configuration is left.
            self._learners_next.add(replica_id)
            return
        self._join(replica_id, is_learner=True)
        self._learners.add(replica_id)

    def _remove(self, replica_id: int) -> None:
        self._incoming.discard(replica_id)
        self._learners.discard(replica_id)
        self._learners_next.discard(replica_id)
        if replica_id not in self._outgoing:
            self._progress.pop(replica_id, None)

    def check(self, change: ConfChangeV2) -> None:
        """Raise ConfChangeError if `change` can't be applied; nothing is altered either way."""
        self._dry = True
        self.change(change)

    def _tracker(self, *, auto_leave: bool) -> Tracker:
        if not self._dry:
            for replica_id, progress in self._progress.items():
                progress.is_learner = self._is_learner[replica_id]
        membership = Membership(
            incoming=frozenset(self._incoming),
            outgoing=frozenset(self._outgoing),
            learners=frozenset(self._learners),
            learners_next=frozenset(self._learners_next),
            auto_leave=auto_leave,
        )
        return Tracker(membership, self._progress)


def restore(state: ConfState, last_index: int, new_window: Callable[[], Inflights]) -> Tracker:
    """Return the tracker of a stored configuration, with every replica to be probed from `last_index`."""
    membership = Membership.from_conf_state(state)
    progress = {
        replica_id: Progress(
            0,
            max(last_index, 1),
            new_window(),
            is_learner=replica_id in membership.learners,
            recent_active=True,
        )
        for replica_id in sorted(membership.voters | membership.learners)
    }
    return Tracker(membership, progress)


def replay(state: ConfState, entries: Sequence[Entry]) -> list[tuple[int, ConfState]]:
    """Return the configuration after each change among `entries`, which follow `state` in the log, by its index."""
    tracker = restore(state, 0, lambda: Inflights(1))
    history = []
    for entry in entries:
        if entry.type is not EntryType.NORMAL:
            tracker = Changer(tracker, entry.index, lambda: Inflights(1)).change(decode_change(entry))
            history.append((entry.index, tracker.membership.conf_state()))
    return history
