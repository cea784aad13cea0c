"""`committed` and `vote`: the arithmetic of majorities, plain and joint.

Besides the asked result each case checks identities that must hold for any configuration (joint with nothing, with
itself, halves swapped, an index lowered that is below the result); one that fails is printed and so fails the case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from raftlog.quorum import INFINITE_INDEX, VoteResult, joint_committed, joint_vote, majority_committed, majority_vote
from raftlog.testing.datadriven.cases import Case, Directive

DIRECTIVES = frozenset(("committed", "vote"))

_RESULT_NAMES = {VoteResult.PENDING: "VotePending", VoteResult.LOST: "VoteLost", VoteResult.WON: "VoteWon"}


class QuorumDialogue:
    """Answers the cases of one file; nothing is remembered from one to the next."""

    def answer(self, case: Case) -> str:
        """Return the chart and index of `committed`, or the result of `vote`."""
        directive = case.directive
        incoming, outgoing = directive.numbers("cfg"), _outgoing(directive)
        given = directive.options.get("idx" if directive.name == "committed" else "votes", ())
        voters = list(dict.fromkeys((*incoming, *(outgoing or ()))))
        if len(given) != len(voters):
            return f"error: mismatched input (explicit or _) for voters {voters}: {list(given)}"
        heard = {voter: value for voter, value in zip(voters, given, strict=True) if value != "_"}
        if directive.name == "vote":
            votes = {voter: value == "y" for voter, value in heard.items()}
            return "\n".join(_vote_lines(incoming, outgoing, votes))
        indexes = {voter: int(value) for voter, value in heard.items()}
        return _chart(sorted(voters), indexes) + "\n".join(_committed_lines(incoming, outgoing, indexes))


def _outgoing(directive: Directive) -> tuple[int, ...] | None:
    """Return the second half of a joint configuration, None for a plain majority."""
    if directive.options.get("cfgj") == ("zero",):
        return ()
    return directive.numbers("cfgj") if "cfgj" in directive.options else None


def _vote_lines(
    incoming: Collection[int], outgoing: Collection[int] | None, votes: Mapping[int, bool]
) -> Iterator[str]:
    if outgoing is None:
        result = majority_vote(incoming, votes)
    else:
        result = joint_vote(incoming, outgoing, votes)
        swapped = joint_vote(outgoing, incoming, votes)
        if swapped is not result:
            yield f"{_RESULT_NAMES[swapped]} <-- via symmetry"
    yield _RESULT_NAMES[result]


def _committed_lines(
    incoming: Collection[int], outgoing: Collection[int] | None, indexes: Mapping[int, int]
) -> Iterator[str]:
    acked = _acked(indexes)
    if outgoing is None:
        committed = majority_committed(incoming, acked)
        for name, other in _same_for_majority(incoming, indexes, committed):
            if other != committed:
                yield f"{_index(other)} <-- {name}"
    else:
        committed = joint_committed(incoming, outgoing, acked)
        swapped = joint_committed(outgoing, incoming, acked)
        if swapped != committed:
            yield f"{_index(swapped)} <-- via symmetry"
    yield _index(committed)


def _same_for_majority(
    voters: Collection[int], indexes: Mapping[int, int], committed: int
) -> Iterator[tuple[str, int]]:
    acked = _acked(indexes)
    yield "via alternative computation", _counted(voters, indexes)
    yield "via zero-joint quorum", joint_committed(voters, (), acked)
    yield "via self-joint quorum", joint_committed(voters, voters, acked)
    for voter, index in indexes.items():
        if index < committed:
            for lower in (index - 1, 0):
                lowered = majority_committed(voters, _acked({**indexes, voter: lower}))
                yield f"overlaying {voter}->{lower}", lowered


def _counted(voters: Collection[int], indexes: Mapping[int, int]) -> int:
    """Return the committed index by its definition: the highest that enough voters have reached."""
    if not voters:
        return INFINITE_INDEX
    needed = len(voters) // 2 + 1
    reached = [index for index in indexes.values() if sum(i >= index for i in indexes.values()) >= needed]
    return max(reached, default=0)


def _acked(indexes: Mapping[int, int]) -> Callable[[int], int]:
    return lambda voter: indexes.get(voter, 0)


def _index(index: int) -> str:
    return "∞" if index == INFINITE_INDEX else str(index)


def _chart(voters: list[int], indexes: Mapping[int, int]) -> str:
    """Draw a bar for each voter, as long as there are voters with a lower index."""
    if not voters:
        return "<empty majority quorum>"
    width = len(voters)
    lines = [" " * width + "    idx"]
    for voter in voters:
        index = indexes.get(voter, 0)
        lower = sum(indexes.get(other, 0) < index for other in voters)
        bar = "x" * lower + ">" if voter in indexes else "?"
        lines.append(f"{bar:<{width + 1}} {index:5}    (id={voter})")
    return "\n".join(lines) + "\n"
