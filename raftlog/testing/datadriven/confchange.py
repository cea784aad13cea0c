"""`simple`, `enter-joint` and `leave-joint`: changes of membership, one after another on one configuration."""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.confchange import Changer, ConfChangeError
from raftlog.progress import Inflights, Progress, ProgressState
from raftlog.testing.datadriven.cases import Case
from raftlog.testing.datadriven.describe import parse_changes
from raftlog.tracker import Membership, Tracker

DIRECTIVES = frozenset(("simple", "enter-joint", "leave-joint"))

_INFLIGHT_MESSAGES_MAX = 10

_STATE_NAMES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}


class MembershipDialogue:
    """Answers the cases of one file, each beginning where the one before it ended.

    The log grows by one entry with each case, so that a replica's `next` shows when it joined.
    """

    def __init__(self) -> None:
        self._tracker = Tracker(Membership(), {})
        self._last_index = 0

    def answer(self, case: Case) -> str:
        """Return the new configuration and the progress of every replica, or why the change is refused."""
        changer = Changer(self._tracker, self._last_index, lambda: Inflights(_INFLIGHT_MESSAGES_MAX))
        self._last_index += 1
        try:
            self._tracker = _changed(changer, case)
        except (ConfChangeError, ValueError) as refusal:
            return str(refusal)
        return f"{describe_membership(self._tracker.membership)}\n{describe_progress(self._tracker)}"


def _changed(changer: Changer, case: Case) -> Tracker:
    changes = parse_changes(case.input)
    if case.directive.name == "simple":
        return changer.simple(changes)
    if case.directive.name == "enter-joint":
        return changer.enter_joint(changes, auto_leave=case.directive.flag("autoleave"))
    if changes:
        raise ValueError("this command takes no input")
    return changer.leave_joint()


def describe_membership(membership: Membership) -> str:
    """Return `voters=(1 2)&&(1) learners=(3) learners_next=(4) autoleave`, each part only if there is something."""
    outgoing = f"&&{_ids(membership.outgoing)}" if membership.is_joint else ""
    parts = [f"voters={_ids(membership.incoming)}{outgoing}"]
    if membership.learners:
        parts.append(f"learners={_ids(membership.learners)}")
    if membership.learners_next:
        parts.append(f"learners_next={_ids(membership.learners_next)}")
    if membership.auto_leave:
        parts.append("autoleave")
    return " ".join(parts)


def describe_progress(tracker: Tracker) -> str:
    """Return one line for each replica, in order of their ids."""
    return "\n".join(f"{replica}: {_progress(tracker.progress[replica])}" for replica in sorted(tracker.progress))


def _progress(progress: Progress) -> str:
    parts = [f"{_STATE_NAMES[progress.state]} match={progress.match} next={progress.next}"]
    if progress.is_learner:
        parts.append("learner")
    if progress.is_paused:
        parts.append("paused")
    if progress.pending_snapshot:
        parts.append(f"pendingSnap={progress.pending_snapshot}")
    if not progress.recent_active:
        parts.append("inactive")
    if in_flight := len(progress.inflights):
        parts.append(f"inflight={in_flight}{'[full]' if progress.inflights.full else ''}")
    return " ".join(parts)


def _ids(ids: Iterable[int]) -> str:
    return "(" + " ".join(str(replica) for replica in sorted(ids)) + ")"
