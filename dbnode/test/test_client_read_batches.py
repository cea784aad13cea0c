"""Small reads in batches: what is sent when, to whom, and that nothing holds a read up for long."""

from __future__ import annotations

from itertools import chain
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadBatches, ReadChannel, Unavailable
from dbnode.client.batches import BATCHED_MAX, BATCHES_UNAWAITED, HELD_SECONDS
from dbnode.client.departures import RETURN_SECONDS
from dbnode.test.client_rig import GROUP, SERVERS, ClientRig
from dbnode.wire import LINEARIZABLE, STALE, UNAVAILABLE, Read, Reply, Rows


def row(item: Read) -> Reply:
    """Answer with the lowest id."""
    return Rows(item.request_id, 1, b"%d" % item.low, None)


class ReadBatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect a client to three replicas, of which each batch asks the next one first."""
        self.rig = ClientRig()
        self.servers = list(self.rig.servers.values())
        for server in self.servers:
            server.answer = row
        self.channel = ReadChannel(self.rig.clock, self.rig.requests, Random(1))
        self.batches = self.of(LINEARIZABLE)
        self.chosen = 0
        self.later: tuple[str, ...] = SERVERS

    def of(self, consistency: int) -> ReadBatches:
        """Return the batches of a consistency."""
        return ReadBatches(self.rig.clock, self.channel, GROUP, consistency, self.next_servers, lambda _: self.later)

    def next_servers(self, group_id: int) -> tuple[str, ...]:
        """Return the servers, beginning with another one each time."""
        self.assertEqual(group_id, GROUP)
        first = self.chosen % len(SERVERS)
        self.chosen += 1
        return SERVERS[first:] + SERVERS[:first]

    def read(self, *ids: int, timeout_seconds: float = 10) -> list[Deferred[Rows]]:
        """Read single rows."""
        reads = [self.batches.attempts(id_, id_, timeout_seconds=timeout_seconds, as_lines=False) for id_ in ids]
        for read in reads:
            self.batches.take(read)
        return [read.rows for read in reads]

    def asked(self) -> list[list[int]]:
        """Return which ids each server was asked for."""
        return [[item.low for item in server.requests if isinstance(item, Read)] for server in self.servers]

    def answer(self, number: int) -> None:
        """Let a server answer what it has left unanswered, and what it is asked from now on."""
        server = self.servers[number]
        server.answer = row
        for item in list(server.requests):
            assert isinstance(item, Read)
            server.reply(row(item))
        self.rig.settle()

    def ignore(self) -> None:
        """Let no server answer from now on."""
        for server in self.servers:
            server.ignore()

    def check(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads were answered with these rows."""
        self.assertEqual([self.successResultOf(read).data for read in reads], [b"%d" % id_ for id_ in ids])

    def test_one_turn_is_one_batch(self) -> None:
        """What is read in one turn asks one server; the next batch another one."""
        first = self.read(1, 2, 3)
        self.assertEqual(self.asked(), [[], [], []])
        self.rig.settle()
        self.check(first, 1, 2, 3)
        self.rig.run(2 * RETURN_SECONDS)
        second = self.read(4)
        self.rig.settle()

        self.check(second, 4)
        self.assertEqual(self.asked(), [[1, 2, 3], [4], []])

    def test_what_is_asked(self) -> None:
        """All that a read wants goes along, and what it may still take."""
        batches = self.of(STALE)
        read = batches.attempts(1, 9, timeout_seconds=1, limit=4, bytes_max=1000, as_lines=True)
        batches.take(read)
        self.rig.settle()

        self.successResultOf(read.rows)
        self.assertEqual(self.servers[0].requests, [Read(1, GROUP, 1, 9, 4, 1000, STALE, 900, True)])

    def test_what_comes_meanwhile_waits(self) -> None:
        """While a batch is on its way the next one gathers, and goes when that one is answered."""
        self.ignore()
        first = self.read(1)
        self.rig.settle()
        second = self.read(2, 3)
        self.rig.settle()
        self.assertEqual(self.asked(), [[1], [], []])
        self.servers[1].answer = row

        self.answer(0)
        # One was answered and two wait: perhaps the one comes back.
        self.rig.run(2 * RETURN_SECONDS)

        self.check(first, 1)
        self.check(second, 2, 3)
        self.assertEqual(self.asked(), [[1], [2, 3], []])

    def test_waits_for_those_just_answered(self) -> None:
        """As soon as as many have come as were answered the next batch goes."""
        self.check_after_settling(self.read(1, 2), 1, 2)
        second = self.read(3)
        self.rig.settle()
        self.assertNoResult(second[0])

        second += self.read(4)
        self.rig.settle()

        self.check(second, 3, 4)
        self.assertEqual(self.asked(), [[1, 2], [3, 4], []])

    def check_after_settling(self, reads: list[Deferred[Rows]], *ids: int) -> None:
        """Check that reads are answered at once."""
        self.rig.settle()
        self.check(reads, *ids)

    def test_waits_a_moment_only(self) -> None:
        """Who was answered need not ask again; a reader by itself waits for nobody."""
        self.check_after_settling(self.read(1, 2), 1, 2)
        second = self.read(3)
        self.rig.run(2 * RETURN_SECONDS)
        self.check(second, 3)

        self.check_after_settling(self.read(4), 4)
        self.check_after_settling(self.read(5), 5)

    def test_who_does_not_come_back_is_not_waited_for(self) -> None:
        """After one wait in vain the next batches go at once, and after those one waits again."""
        for _ in range(2):
            self.check_after_settling(self.read(1, 2, 3), 1, 2, 3)
            in_vain = self.read(4)
            self.rig.settle()
            self.assertNoResult(in_vain[0])
            self.rig.run(2 * RETURN_SECONDS)
            self.check(in_vain, 4)
            for _ in range(BATCHES_UNAWAITED - 1):
                self.check_after_settling(self.read(1, 2, 3), 1, 2, 3)

    def test_held_for_a_moment_only(self) -> None:
        """A batch without an answer holds the next one up for a few milliseconds; that goes to another server."""
        self.patch(self.batches, "_servers", lambda _: SERVERS)
        self.ignore()
        self.servers[2].answer = row
        self.read(1)
        self.rig.settle()
        second = self.read(2)
        self.rig.run(HELD_SECONDS + 0.002)
        self.assertEqual(self.asked(), [[1], [2], []])
        third = self.read(3)

        self.rig.run(HELD_SECONDS + 0.002)

        self.check(third, 3)
        self.assertNoResult(second[0])
        # Of three batches two are stuck; who has answered is asked again.
        self.check_after_settling(self.read(4), 4)
        self.assertEqual(self.asked(), [[1], [2], [3, 4]])

    def test_everybody_is_stuck(self) -> None:
        """Then each is asked in turn all the same."""
        self.ignore()
        for id_ in range(1, 6):
            self.read(id_)
            self.rig.run(HELD_SECONDS + 0.002)

        self.assertEqual(sorted(chain.from_iterable(self.asked())), [1, 2, 3, 4, 5])
        self.assertEqual([ids[:1] for ids in self.asked()], [[1], [2], [3]])

    def test_servers_that_are_gone(self) -> None:
        """A crowd whose first server is not connected asks the next one on the spot, and holds nobody up longer."""
        self.rig.network.cut("balancer", "A")
        self.patch(self.batches, "_servers", lambda _: SERVERS)
        crowd = self.read(*range(2 * BATCHED_MAX + 2))
        self.rig.settle()
        self.check(crowd, *range(2 * BATCHED_MAX + 2))

        self.servers[1].ignore()
        self.rig.run(2 * RETURN_SECONDS)
        self.read(1000)
        self.rig.settle()
        after = self.read(1001)
        self.rig.settle()
        self.assertNoResult(after[0])

    def test_answered_by_the_second_server(self) -> None:
        """A read that was not answered for long asks somebody else as well; its batch is over then."""
        self.servers[0].ignore()
        first = self.read(1)
        self.rig.run(0.5)

        self.check(first, 1)
        self.assertEqual(self.batches._unanswered, set())

    def test_an_older_batch_is_not_waited_for(self) -> None:
        """When a batch that was overtaken is answered in the end, that lets nothing go."""
        self.ignore()
        self.read(1)
        self.rig.settle()
        self.read(2)
        self.rig.run(HELD_SECONDS + 0.002)
        third = self.read(3)

        self.answer(0)

        self.assertNoResult(third[0])
        self.assertEqual(self.asked(), [[1], [2], []])

    def test_a_crowd_is_spread(self) -> None:
        """Many at once make several batches, and enough of them another one beside what is on its way."""
        self.ignore()
        self.read(*range(BATCHED_MAX + 1))
        self.rig.settle()
        self.read(*range(1000, 1000 + BATCHED_MAX))
        self.rig.settle()

        self.assertEqual([len(ids) for ids in self.asked()], [BATCHED_MAX, 1, BATCHED_MAX])

    def test_who_has_to_ask_elsewhere_holds_nobody_up(self) -> None:
        """A server's refusal ends its batch; those refused go on by themselves."""
        self.servers[0].refuse(UNAVAILABLE)
        self.servers[1].ignore()
        first = self.read(1)
        self.rig.settle()
        self.assertEqual(self.asked(), [[1], [1], []])
        self.servers[1].answer = row

        second = self.read(2)
        self.rig.settle()

        self.check(second, 2)
        self.assertNoResult(first[0])

    def test_a_read_that_is_not_waited_for(self) -> None:
        """Cancelled before its batch goes it is not asked for, and the batch after it does not wait."""
        reads = self.read(1, 2)
        reads[0].cancel()
        self.failureResultOf(reads[0])
        self.rig.settle()
        self.assertEqual(self.asked(), [[2], [], []])

        alone = self.read(3)
        alone[0].cancel()
        self.failureResultOf(alone[0])
        self.rig.run(2 * RETURN_SECONDS)
        fourth = self.read(4)
        self.rig.run(2 * RETURN_SECONDS)

        self.check(fourth, 4)

    def test_deadline(self) -> None:
        """What a read waits here counts: it fails at its deadline."""
        self.ignore()
        self.read(1)
        self.rig.settle()
        read = self.read(2, timeout_seconds=HELD_SECONDS / 2)[0]

        self.rig.run(HELD_SECONDS + 0.002)

        self.failureResultOf(read, Unavailable)
        self.assertEqual(self.asked(), [[1], [], []])

    def test_stop(self) -> None:
        """Nothing waits here any longer: it is sent, or fails if there is nobody left to ask; no timer is left."""
        self.ignore()
        self.read(1)
        self.rig.settle()
        second = self.read(2)[0]
        self.batches.stop()
        self.rig.settle()
        self.assertEqual(self.asked(), [[1], [2], []])
        self.assertNoResult(second)

    def test_stop_with_nobody_to_ask(self) -> None:
        """What waits fails, and so does what comes later."""
        self.ignore()
        waiting = self.read(1)
        self.rig.settle()
        waiting += self.read(2, 3)
        self.patch(self.batches, "_servers", lambda _: ())

        self.batches.stop()
        waiting += self.read(4)

        self.channel.stop()
        self.rig.requests.stop()
        for read in waiting:
            self.failureResultOf(read, Unavailable)
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])
