"""Quorum arithmetic against its definition: any two quorums overlap, and nothing is committed without one."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.quorum import INFINITE_INDEX, VoteResult, joint_committed, joint_vote, majority_committed, majority_vote

same_each_time = settings(derandomize=True, deadline=None, database=None)

ids = st.frozensets(st.integers(1, 7), max_size=7)
indexes = st.dictionaries(st.integers(1, 7), st.integers(1, 9))
votes = st.dictionaries(st.integers(1, 7), st.booleans())


def majorities(voters: frozenset[int]) -> list[set[int]]:
    """Return all smallest majorities of `voters`."""
    return [set(some) for some in combinations(sorted(voters), len(voters) // 2 + 1)]


def committed_by_definition(voters: frozenset[int], acked: dict[int, int]) -> int:
    """Return the highest index that all of some majority acknowledged."""
    if not voters:
        return INFINITE_INDEX
    return max(min(acked.get(voter, 0) for voter in majority) for majority in majorities(voters))


def vote_by_definition(voters: frozenset[int], given_votes: dict[int, bool]) -> VoteResult:
    """Return won if some majority granted, lost if no majority can any more."""
    if not voters or any(all(given_votes.get(v) for v in majority) for majority in majorities(voters)):
        return VoteResult.WON
    if any(all(given_votes.get(v, True) for v in majority) for majority in majorities(voters)):
        return VoteResult.PENDING
    return VoteResult.LOST


class MajorityTests(SynchronousTestCase):
    @given(ids, indexes)
    @same_each_time
    def test_committed(self, voters: frozenset[int], acked: dict[int, int]) -> None:
        """An index is committed if a majority acknowledged it; what others acknowledge does not matter."""
        found = majority_committed(voters, lambda voter: acked.get(voter, 0))

        self.assertEqual(found, committed_by_definition(voters, acked))

    @given(ids, votes)
    @same_each_time
    def test_vote(self, voters: frozenset[int], given_votes: dict[int, bool]) -> None:
        """A vote is won by a majority, and lost once none is possible."""
        self.assertIs(majority_vote(voters, given_votes), vote_by_definition(voters, given_votes))


class JointTests(SynchronousTestCase):
    """Paper §6: 'agreement (for elections and entry commitment) requires separate majorities' of old and new."""

    @given(ids, ids, indexes)
    @same_each_time
    def test_committed(self, incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]) -> None:
        """Committed is what both halves committed."""
        found = joint_committed(incoming, outgoing, lambda voter: acked.get(voter, 0))

        self.assertEqual(found, min(committed_by_definition(incoming, acked), committed_by_definition(outgoing, acked)))

    @given(ids, ids, votes)
    @same_each_time
    def test_vote(self, incoming: frozenset[int], outgoing: frozenset[int], given_votes: dict[int, bool]) -> None:
        """Won if both halves are won, lost if one is lost."""
        halves = {vote_by_definition(incoming, given_votes), vote_by_definition(outgoing, given_votes)}
        expected = VoteResult.LOST if VoteResult.LOST in halves else VoteResult.PENDING

        found = joint_vote(incoming, outgoing, given_votes)

        self.assertIs(found, VoteResult.WON if halves == {VoteResult.WON} else expected)

    @given(ids, ids, votes)
    @same_each_time
    def test_no_two_winners(self, incoming: frozenset[int], outgoing: frozenset[int], ballots: dict[int, bool]) -> None:
        """If each voter votes for one of two candidates, at most one wins, in the old, the joint and the new."""
        for_other = {voter: not granted for voter, granted in ballots.items()}
        if not incoming or not outgoing:
            return

        for configurations in (
            ((incoming, frozenset[int]()), (incoming, outgoing)),
            ((incoming, outgoing), (outgoing, frozenset[int]())),
        ):
            (one, one_out), (other, other_out) = configurations
            won = [
                joint_vote(one, one_out, ballots) is VoteResult.WON,
                joint_vote(other, other_out, for_other) is VoteResult.WON,
            ]
            self.assertNotEqual(won, [True, True])
