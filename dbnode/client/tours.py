"""Small linearizable reads of many groups, confirmed together by one tour through the servers (raftlog.testimony).

If each batch of reads asks its own replica, which asks its own group, a server takes part in as many rounds as it has
groups: with many replicas that is most of what a read costs. A tour asks for all groups at once and visits each server
once. Then the reads go to as few servers as have all those groups, together with what a replica must have applied.

What comes while a tour is on its way leaves with the next one, once the reads are answered as well, which is waited for
only a moment: a shard may be slow, or without a leader. There are two at most, and the second leaves only with as many
reads as the one before it: with fewer it would cost more than it brings. Where a tour would save too little, as for a
read by itself, the replica that is asked finds out.

A tour goes from hand to hand, so one server that does not answer holds up all that is in it. So nobody waits for a tour
longer than tours usually take; after that its reads go the other way, each group by itself (dbnode.client.batches), and
so do all others for a while. Where all tours take longer than LATE_SECONDS_MIN, as servers are far apart, that is how
it stays but for one now and then.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.batches import BATCHED_MAX, HELD_SECONDS, ReadBatches
from dbnode.client.outcome import Unanswered
from dbnode.client.reads import Attempts
from dbnode.client.requests import Asker
from dbnode.wire import Answer, Question, ReadPositions, Reply, Request, Tour
from raftlog.testimony import NOWHERE

#: So many tours are on their way at a time.
TOURS_MAX = 2
#: A tour is late after so many times the time that tours took lately, within these bounds.
LATE_TIMES = 4
LATE_SECONDS_MIN = 0.05
LATE_SECONDS_MAX = 0.2
#: How much of the longest time counts after each tour.
DECAY = 0.9
#: After a tour that was late no other one leaves for so long, twice as long if the one before was not long ago.
PAUSE_SECONDS_MIN = 0.25
PAUSE_SECONDS_MAX = 8.0
#: How long the first server may take to answer, though nobody waits for it any more then: longer than it waits for the
#: others (dbnode.tours), so that it is not blamed for them.
_ANSWER_SECONDS = 1.0
#: So many ways are remembered, for so many tours: then others are found, so that all servers have their share.
_WAYS_MAX = 1000
_WAYS_TOURS = 8
#: A tour has to save so many times its messages: it takes them one after the other.
SAVING_MIN = 2


def tour_pays(servers: int, replicas: Iterable[int]) -> bool:
    """Return whether a tour by so many servers saves enough for groups of so many replicas each.

    A group's own round takes a message for each of a majority (raftlog.relays), none if there is one replica.
    """
    return SAVING_MIN * servers <= sum(count // 2 + 1 for count in replicas if count > 1)


class _Away:
    """Reads on their way: those that wait for a tour, by group, and how many of all are still to be answered."""

    __slots__ = ("late_call", "left", "left_seconds", "reads")

    def __init__(
        self,
        reads: dict[int, list[Attempts]],
        left: int,
        clock: IReactorTime,
        patience_seconds: float,
        late: Callable[[_Away], None],
    ) -> None:
        self.reads = reads
        self.left = left
        self.left_seconds = clock.seconds()
        self.late_call: IDelayedCall = clock.callLater(patience_seconds, late, self)


class ReadTours:
    """The reads of the groups that share their tours.

    `replicas` says which servers have each group, and `batches` how its reads go by themselves; `servers` names whom to
    read a group from, another one first each time, and `suspects` those that had better not be visited.
    """

    def __init__(
        self,
        clock: IReactorTime,
        requests: Asker,
        rng: random.Random,
        replicas: Mapping[int, frozenset[str]],
        batches: Mapping[int, ReadBatches],
        servers: Callable[[int], Sequence[str]],
        suspects: Callable[[], frozenset[str]],
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._rng = rng
        self.replicas = replicas
        self._batches = batches
        self._servers = servers
        self._suspects = suspects
        self._queue: list[Attempts] = []
        self._leave_call: IDelayedCall | None = None
        #: Reads on their way, in the order in which they left, and how many the last that left were.
        self._away: dict[_Away, None] = {}
        self._latest_size = 0
        #: How many reads each server owes an answer for.
        self._owing: Counter[str] = Counter()
        self._count = 0
        #: The server that leads each group, as far as known, and the ways that were found for that.
        self._leaders: dict[int, str] = {}
        self._ways: dict[tuple[frozenset[int], frozenset[str]], tuple[str, ...]] = {}
        #: About the longest time that a tour took lately.
        self._usual_seconds = 0.0
        #: How long the last pause was, and until when.
        self._pause_seconds = 0.0
        self._paused_until_seconds = float("-inf")
        self._stopped = False

    def take(self, attempts: Attempts) -> None:
        """Let a read leave with the next tour."""
        if self._stopped or self._clock.seconds() < self._paused_until_seconds:
            self._batches[attempts.group_id].take(attempts)
            return
        self._queue.append(attempts)
        self._leave_if_due()

    def stop(self) -> None:
        """Wait for no tour any more; reads go by themselves."""
        self._stopped = True
        for away in list(self._away):
            self._ended(away)
            self._go_by_themselves(away.reads)
        self._go_by_themselves(self._take_queue())

    # ---- leaving ------------------------------------------------------------------------------------------------

    def _leave_if_due(self) -> None:
        if self._leave_call is not None or not self._queue:
            return
        if not self._away or (len(self._away) < TOURS_MAX and len(self._queue) >= self._latest_size):
            # At the end of the turn, with all that comes in it.
            self._leave_call = self._clock.callLater(0, self._leave)

    def _take_queue(self) -> dict[int, list[Attempts]]:
        if self._leave_call is not None:
            if self._leave_call.active():
                self._leave_call.cancel()
            self._leave_call = None
        queue, self._queue = self._queue, []
        reads: dict[int, list[Attempts]] = {}
        for attempts in queue:
            reads.setdefault(attempts.group_id, []).append(attempts)
        return reads

    def _leave(self) -> None:
        reads = self._take_queue()
        suspects = self._suspects()
        for group_id in [group_id for group_id in reads if self._is_hopeless(group_id, suspects)]:
            self._go_by_themselves({group_id: reads.pop(group_id)})
        if not reads:
            return
        self._latest_size = sum(map(len, reads.values()))
        away = _Away(reads, self._latest_size, self._clock, self._patience_seconds(), self._late)
        self._away[away] = None
        way = self._way(frozenset(reads), suspects)
        if tour_pays(len(way), (len(self.replicas[group_id]) for group_id in reads)):
            self._send(away, way)
        else:
            self._ask_without_tour(away)

    def _send(self, away: _Away, way: tuple[str, ...]) -> None:
        self._count += 1
        if self._count % _WAYS_TOURS == 0:
            self._ways.clear()
        # In another order each time, so that all servers hear of each other: that spares greetings (raftlog.liveness).
        entry, *route = self._rng.sample(way, len(way))
        questions = tuple(map(Question, away.reads))

        def build(request_id: int) -> Request:
            return Tour(request_id, tuple(route), questions)

        asked = self._requests.ask(entry, build, _ANSWER_SECONDS)
        ended = asked.addCallbacks(partial(self._returned, away), partial(self._not_returned, away))
        in_background(ended, "a tour for reads")

    def _ask_without_tour(self, away: _Away) -> None:
        busy = frozenset(self._owing)
        for group_id, waiting in self._wait_for_answers(away).items():
            for start in range(0, len(waiting), BATCHED_MAX):
                servers = self._idle_first(group_id, busy)
                self._begin(away, waiting[start : start + BATCHED_MAX], servers)

    def _wait_for_answers(self, away: _Away) -> dict[int, list[Attempts]]:
        """Return reads that wait for no tour any more; from now on they are waited for only a moment."""
        reads, away.reads = away.reads, {}
        away.late_call.reset(HELD_SECONDS)
        return reads

    def _idle_first(self, group_id: int, busy: frozenset[str]) -> Sequence[str]:
        """Return whom to read a group from, those first that have answered all that was sent before."""
        servers = self._servers(group_id)
        return sorted(servers, key=busy.__contains__) if busy else servers

    def _begin(self, away: _Away, together: Collection[Attempts], servers: Sequence[str]) -> None:
        first = servers[0] if servers else ""
        self._owing[first] += len(together)
        answered = partial(self._answered, away, first)
        for attempts in together:
            attempts.begin(servers, answered)

    def _answered(self, away: _Away, server: str) -> None:
        self._owing[server] -= 1
        if not self._owing[server]:
            del self._owing[server]
        self._done(away)

    def _done(self, away: _Away) -> None:
        """Take note that a read is answered, or goes by itself."""
        away.left -= 1
        if not away.left and away in self._away:
            self._ended(away)
            self._leave_if_due()

    def _patience_seconds(self) -> float:
        return min(max(LATE_SECONDS_MIN, LATE_TIMES * self._usual_seconds), LATE_SECONDS_MAX)

    def _is_hopeless(self, group_id: int, suspects: frozenset[str]) -> bool:
        """Return whether a tour that visits no suspects can't find a group's position."""
        if not suspects:
            return False
        replicas = self.replicas[group_id]
        return self._leaders.get(group_id, "") in suspects or not _is_majority(replicas - suspects, replicas)

    def _way(self, group_ids: frozenset[int], suspects: frozenset[str]) -> tuple[str, ...]:
        """Return the servers to visit, so that each group's leader, if known, and a majority of it are among them."""
        way = self._ways.get((group_ids, suspects))
        if way is None:
            if len(self._ways) >= _WAYS_MAX:
                self._ways.clear()
            way = self._ways[group_ids, suspects] = self._find_way(group_ids, suspects)
        return way

    def _find_way(self, group_ids: frozenset[int], suspects: frozenset[str]) -> tuple[str, ...]:
        way = {self._leaders.get(group_id, "") for group_id in group_ids} - {""}
        lacking = {group_id: self.replicas[group_id] for group_id in group_ids}
        while True:
            lacking = {group_id: names for group_id, names in lacking.items() if not _is_majority(way, names)}
            if not lacking:
                return tuple(sorted(way))
            lacks = Counter(chain.from_iterable(lacking.values()))
            candidates = sorted(lacks.keys() - way - suspects)
            start = self._rng.randrange(len(candidates))
            way.add(max(candidates[start:] + candidates[:start], key=lacks.__getitem__))

    # ---- coming back --------------------------------------------------------------------------------------------

    def _ended(self, away: _Away) -> None:
        self._away.pop(away, None)
        if away.late_call.active():
            away.late_call.cancel()

    def _returned(self, away: _Away, reply: Reply) -> None:
        if away not in self._away:
            # Too late: its reads have gone by themselves.
            return
        if isinstance(reply, ReadPositions) and [answer.group_id for answer in reply.answers] == list(away.reads):
            self._usual_seconds = max(self._clock.seconds() - away.left_seconds, DECAY * self._usual_seconds)
            self._read(away, reply.answers)
        else:
            self._in_vain(away)

    def _not_returned(self, away: _Away, failure: Failure) -> None:
        failure.trap(Unanswered)
        if away in self._away:
            self._in_vain(away)

    def _in_vain(self, away: _Away) -> None:
        self._ended(away)
        self._go_by_themselves(away.reads)
        self._leave_if_due()

    def _late(self, away: _Away) -> None:
        self._ended(away)
        if not away.reads:
            # The tour has come back, or there was none: others need not wait, nor take another way.
            self._leave_if_due()
            return
        now_seconds = self._clock.seconds()
        if self._paused_until_seconds <= now_seconds:
            # Not for the second one that was on its way with it.
            is_again = now_seconds - self._paused_until_seconds <= PAUSE_SECONDS_MAX
            self._pause_seconds = min(2 * self._pause_seconds, PAUSE_SECONDS_MAX) if is_again else PAUSE_SECONDS_MIN
            self._paused_until_seconds = now_seconds + self._pause_seconds
        self._go_by_themselves(away.reads)
        self._go_by_themselves(self._take_queue())

    def _go_by_themselves(self, reads: Mapping[int, Collection[Attempts]]) -> None:
        for group_id, waiting in reads.items():
            for attempts in waiting:
                self._batches[group_id].take(attempts)

    def _read(self, away: _Away, answers: Sequence[Answer]) -> None:
        """Send reads whose position was found to as few servers as have them all, not too many to each."""
        reads = self._wait_for_answers(away)
        busy = frozenset(self._owing)
        chosen: Counter[str] = Counter()
        # Another group's ring chooses first each time, so that no server goes short because its groups are less read.
        start = self._count % len(answers)
        for answer in (*answers[start:], *answers[:start]):
            waiting = reads[answer.group_id]
            self._follow(answer.group_id, answer.leader)
            if answer.position == NOWHERE:
                for attempts in waiting:
                    self._batches[answer.group_id].take(attempts)
                    self._done(away)
                continue
            for place in range(0, len(waiting), BATCHED_MAX):
                together = waiting[place : place + BATCHED_MAX]
                servers = self._idle_first(answer.group_id, busy)
                first = next((name for name, load in chosen.items() if load < BATCHED_MAX and name in servers), "")
                if first:
                    servers = (first, *(name for name in servers if name != first))
                chosen[servers[0] if servers else ""] += len(together)
                for attempts in together:
                    attempts.position = answer.position
                self._begin(away, together, servers)

    def _follow(self, group_id: int, leader: str) -> None:
        if self._leaders.get(group_id, "") != leader:
            self._leaders[group_id] = leader
            self._ways.clear()


def _is_majority(servers: Collection[str], replicas: frozenset[str]) -> bool:
    return 2 * len(replicas.intersection(servers)) > len(replicas)
