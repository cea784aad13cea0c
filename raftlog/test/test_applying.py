"""A follower gathers what it applies until somebody waits for it, it is much, or a while has passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftlog.applying import GATHERED_BYTES_MAX, ApplyQueue
from raftlog.messages import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    Message,
    MessageType,
)
from raftlog.node import Node
from raftlog.options import Times
from raftlog.test.three import GROUP, Journal, SlowJournal, Three
from raftlog.testimony import Position

TIMES = Times(gathering_ticks=4)
#: Longer than a follower gathers, and shorter than a tick.
LONG_SECONDS = 6 * TIMES.tick_seconds
SHORT_SECONDS = TIMES.tick_seconds / 5


class Counted(Journal):
    """A journal that counts its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0

    def apply(self, entries: Sequence[Entry]) -> list[Any]:
        """Append each entry's data."""
        self.transactions += 1
        return super().apply(entries)


class GatheringCase(SynchronousTestCase):
    """Three servers whose followers gather."""

    def begin(self, machines: dict[str, Any] | None = None) -> None:
        """Start them, and tell the leader from a follower."""
        self.three = Three(machines or {name: Counted() for name in "ABC"}, times=TIMES)
        self.three.run(2)
        self.leader = self.three.leader()
        self.follower = next(name for name in "ABC" if name != self.leader)

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def node(self, name: str) -> Node:
        """Return a server's driver."""
        return self.three.network.nodes[name]

    def machine(self, name: str) -> Any:
        """Return a server's state machine."""
        return self.three.machines[name]

    def write(self, *lines: bytes) -> None:
        """Have each line committed in a round of its own, and all of it known to be by everybody."""
        for line in lines:
            written = self.node(self.leader).propose(GROUP, line)
            self.three.run(SHORT_SECONDS)
            self.successResultOf(written)

    def after_a_tick(self) -> None:
        """Wait until a follower has just applied what it had, so that its next ticks are all to come."""
        self.write(b"first")
        while not self.machine(self.follower).lines:
            self.three.run(SHORT_SECONDS)


class FollowerTests(GatheringCase):
    def setUp(self) -> None:
        """Begin with a follower that has applied what there is."""
        self.begin()
        self.after_a_tick()

    def test_many_rounds_are_one_transaction(self) -> None:
        """The leader applies each round, for its client waits; a follower what it heard of within a while at once."""
        leader, follower = self.machine(self.leader), self.machine(self.follower)
        before = leader.transactions, follower.transactions

        self.write(b"1", b"2", b"3", b"4", b"5")
        self.assertEqual(follower.lines, [b"first"])
        self.three.run(LONG_SECONDS)

        self.assertEqual(follower.lines, [b"first", b"1", b"2", b"3", b"4"])
        self.assertEqual((leader.transactions - before[0], follower.transactions - before[1]), (5, 1))

    def test_a_read_waits_for_nothing_but_its_round(self) -> None:
        """What a read has to see is applied as soon as the read is confirmed."""
        self.write(b"1", b"2")

        read = self.node(self.follower).read_index(GROUP, 1.0)
        self.three.run(SHORT_SECONDS)

        self.successResultOf(read)
        self.assertEqual(self.machine(self.follower).lines, [b"first", b"1", b"2"])

    def test_a_read_at_a_position_waits_for_nothing(self) -> None:
        """Whoever knows up to where everything is committed has it applied at once, though no leader tells of it."""
        self.write(b"1", b"2")
        testimony = self.node(self.leader).testify(GROUP)
        assert testimony is not None
        self.three.network.cut.add(self.leader)

        read = self.node(self.follower).read_at(GROUP, Position(testimony.committed, testimony.term), 1.0)
        self.three.clock.advance(0)

        self.successResultOf(read)
        self.assertEqual(self.machine(self.follower).lines, [b"first", b"1", b"2"])

    def test_whoever_reads_at_once_gets_what_is_here(self) -> None:
        """A stale read has whatever is known to be committed applied before."""
        self.write(b"1", b"2")

        self.node(self.follower).apply_now(GROUP)

        self.assertEqual(self.machine(self.follower).lines[:2], [b"first", b"1"])

    def test_nothing_gathers_once_the_state_machine_has_to_be_idle(self) -> None:
        """A snapshot takes the place of everything: what came before it is applied before it is installed."""
        (group,) = self.node(self.follower).open_groups()
        self.write(b"1", b"2")

        self.successResultOf(group.idle())

        self.assertEqual(self.machine(self.follower).lines[:2], [b"first", b"1"])

    def test_much_is_applied_at_once(self) -> None:
        """The transaction for what was gathered stays short; what comes after it gathers again."""
        line = b"x" * (GATHERED_BYTES_MAX // 4)
        self.write(line, line, line, line, line)
        self.assertIn(line, self.machine(self.follower).lines)
        self.three.run(LONG_SECONDS)

        before = self.machine(self.follower).transactions
        self.write(b"1", b"2", b"3")
        self.three.run(LONG_SECONDS)

        self.assertEqual(self.machine(self.follower).transactions - before, 1)

    def test_much_that_has_come_while_nothing_could_be_applied(self) -> None:
        """It is applied in transactions that are short each."""
        queue = ApplyQueue(TIMES.gathering_ticks)
        data = b"x" * (GATHERED_BYTES_MAX // 4)
        messages = [
            Message(MessageType.STORAGE_APPLY, 0, 1, entries=(Entry(index=index, term=1, data=data),))
            for index in range(1, 11)
        ]
        for message in messages:
            queue.put(message)

        taken = []
        while queue:
            taken.append(queue.take())

        self.assertEqual([len(entries) for _, entries in taken], [4, 4, 2])
        self.assertEqual([message for group, _ in taken for message in group], messages)

    def test_changes_of_membership_are_applied_at_once(self) -> None:
        """They decide who takes part, and with them goes what is before them."""
        change = ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.ADD_LEARNER, 4),))
        self.write(b"1")

        changed = self.node(self.leader).propose_conf_change(GROUP, change)
        self.three.run(2 * SHORT_SECONDS)
        self.successResultOf(changed)
        # The news of the commit comes with the next append.
        self.write(b"2")

        self.assertEqual(self.node(self.follower).status(GROUP).conf_state.learners, (4,))
        self.assertEqual(self.machine(self.follower).lines[1], b"1")

    def test_a_new_leader_has_all_of_it(self) -> None:
        """What a follower gathered it applies when it is elected."""
        self.write(b"1", b"2")
        replica_id = next(i for i, name in self.three.peers.items() if name == self.follower)

        self.node(self.leader).transfer_leader(GROUP, replica_id)
        self.three.run(2 * SHORT_SECONDS)

        self.assertEqual(self.three.leader(), self.follower)
        self.assertEqual(self.machine(self.follower).lines, [b"first", b"1", b"2"])

    def test_a_crash_loses_nothing(self) -> None:
        """What was gathered and not applied is in the log."""
        self.write(b"1", b"2")
        machine = self.machine(self.follower)
        self.assertEqual(machine.lines, [b"first"])

        node = self.three.crash(self.follower)
        node.open_group(GROUP, dict(self.three.peers), machine)
        self.three.run(1)

        self.assertEqual(machine.lines, [b"first", b"1", b"2"])


class SlowTests(GatheringCase):
    """A state machine that takes its time."""

    def test_what_comes_meanwhile_is_the_next_transaction(self) -> None:
        """While a transaction is under way the next entries gather, and are applied in order after it."""
        self.begin({"A": SlowJournal(), "B": SlowJournal(), "C": SlowJournal()})
        proposed = []
        for number in range(3):
            proposed.append(self.node(self.leader).propose(GROUP, b"%d" % number))
            self.three.run(SHORT_SECONDS)
        self.three.run(LONG_SECONDS)
        for _ in range(10):
            for machine in self.three.machines.values():
                assert isinstance(machine, SlowJournal)
                if machine.pending:
                    machine.go()
            self.three.run(LONG_SECONDS)

        self.assertEqual([self.successResultOf(one) for one in proposed], [1, 2, 3])
        self.assertEqual([m.lines for m in self.three.machines.values()], [[b"0", b"1", b"2"]] * 3)
