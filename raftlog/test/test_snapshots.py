"""Compaction, and snapshots from a leader to a replica that its log no longer reaches."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from raftlog import compaction
from raftlog.errors import LostData
from raftlog.link import Lane
from raftlog.messages import SnapshotAck, SnapshotChunk
from raftlog.options import Limits
from raftlog.test.three import GROUP, Journal, JournalImport, Three
from raftlog.transfer import STALL_SECONDS

#: Room for a few of the entries below.
SMALL = Limits(log_bytes_max=1000)
LINE = b"x" * 100


class SnapshotTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers, of which one follower is cut off while more is written than the log keeps."""
        self.three = Three(limits=SMALL)
        self.three.run(2)
        self.leader = self.three.leader()
        self.behind = next(name for name in "ABC" if name != self.leader)
        self.three.network.cut.add(self.behind)
        for _ in range(50):
            self.write()

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def write(self) -> None:
        """Have one line acknowledged."""
        write = self.three.network.nodes[self.leader].propose(GROUP, LINE)
        self.three.run(0.02)
        self.successResultOf(write)

    def heal(self) -> None:
        """Let the follower be reached again, and give it time."""
        self.three.network.cut.clear()
        self.three.run(3)

    def lines(self, name: str) -> int:
        """Return how many lines a server has."""
        return len(self.three.machines[name].lines)

    def chunks(self) -> list[SnapshotChunk]:
        """Return the chunks that were sent."""
        return [item for *_, item in self.three.network.sent if isinstance(item, SnapshotChunk)]

    def test_log_is_bounded(self) -> None:
        """However far a follower is behind, the log stays within its bound (RAFT_RULES 17)."""
        wal = self.three.wals[self.leader]

        self.assertLess(wal.group_bytes(GROUP), 2 * SMALL.log_bytes_max)
        self.assertEqual(self.lines(self.leader), 50)

    def test_follower_behind_the_log_gets_a_snapshot(self) -> None:
        """It is caught up by a copy, on the bulk lane, and then by the log again."""
        self.heal()
        self.write()
        self.three.run(0.2)

        self.assertEqual(self.lines(self.behind), 51)
        lanes = {lane for *_, lane, item in self.three.network.sent if isinstance(item, SnapshotChunk)}
        self.assertEqual(lanes, {Lane.BULK})
        self.assertEqual([chunk.message is not None for chunk in self.chunks()].count(True), 1)

    def test_restart_after_a_snapshot(self) -> None:
        """The snapshot is where the log begins after a restart."""
        self.heal()
        machine = self.three.machines[self.behind]

        self.three.crash(self.behind).open_group(GROUP, dict(self.three.peers), machine)
        self.three.run(1)
        self.leader = self.three.leader()
        self.write()
        self.three.run(0.2)

        self.assertEqual(self.lines(self.behind), 51)

    def test_damaged_chunk_is_refused_and_sent_again(self) -> None:
        """A chunk whose checksum is wrong ends the transfer; the next attempt brings everything."""
        damaged: list[SnapshotChunk] = []

        def drop_one(item: object) -> bool:
            if isinstance(item, SnapshotChunk) and item.number == 7 and not damaged:
                damaged.append(item)
                bad = SnapshotChunk(item.group_id, item.from_, item.to, item.transfer_id, 7, b"wrong", item.crc)
                self.three.network.nodes[self.behind].receive([bad])
            return False

        self.three.network.drops = drop_one
        self.heal()

        self.assertEqual(len(damaged), 1)
        self.assertEqual(self.lines(self.behind), 50)

    def test_chunk_of_another_sender_is_ignored(self) -> None:
        """Two leaders may number their transfers alike; what the other one sends does no harm."""
        forged: list[SnapshotChunk] = []

        def forge_one(item: object) -> bool:
            if isinstance(item, SnapshotChunk) and item.number == 7 and not forged:
                other = SnapshotChunk(item.group_id, item.from_ + 100, item.to, item.transfer_id, 7, b"", 0)
                forged.append(other)
                self.three.network.nodes[self.behind].receive([other])
            return False

        self.three.network.drops = forge_one
        self.heal()

        self.assertEqual([chunk.message is not None for chunk in self.chunks()].count(True), 1)
        self.assertEqual(self.lines(self.behind), 50)

    def test_transfer_that_stalls_is_given_up_by_both_sides(self) -> None:
        """Without acknowledgements the sender gives up, without chunks the receiver, and a later attempt succeeds."""
        self.three.network.drops = lambda item: isinstance(item, SnapshotAck)
        self.heal()
        self.assertEqual(self.lines(self.behind), 0)

        self.three.network.drops = lambda item: False
        self.three.run(STALL_SECONDS + 3)

        self.assertEqual(self.lines(self.behind), 50)

    def test_follower_that_dies_with_its_copy(self) -> None:
        """What was kept for it goes when it holds old segments of the log, so that it fills no disk (RAFT_RULES 17)."""
        (leads,) = self.three.network.nodes[self.leader].open_groups()
        finished: list[Deferred[None]] = []

        def never_finish(self: JournalImport) -> Deferred[None]:
            finished.append(Deferred())
            return finished[-1]

        self.patch(JournalImport, "finish", never_finish)
        self.heal()
        self.three.network.cut.add(self.behind)
        for _ in range(5):
            self.write()
        leads.compact(0)
        kept = leads.log.size_bytes

        self.patch(self.three.wals[self.leader], "pinning_groups", lambda: [GROUP])
        self.three.run(2)

        self.assertEqual(len(finished), 1)
        self.assertGreater(kept, 5 * len(LINE))
        self.assertEqual(leads.log.size_bytes, 0)

    def test_crash_between_content_and_log(self) -> None:
        """A process that dies after the content was swapped and before the log says so finishes it at its restart."""
        wal = self.three.wals[self.behind]
        machine = self.three.machines[self.behind]
        finish = JournalImport.finish

        def finish_and_stop_syncing(self: JournalImport) -> Deferred[None]:
            wal.auto = False
            return finish(self)

        self.patch(JournalImport, "finish", finish_and_stop_syncing)
        self.heal()
        self.assertEqual(machine.applied_index, self.three.machines[self.leader].applied_index)

        node = self.three.crash(self.behind)
        node.open_group(GROUP, dict(self.three.peers), machine)
        self.three.wals[self.behind].auto = True
        self.three.wals[self.behind].sync()
        self.three.run(1)
        self.leader = self.three.leader()
        self.write()
        self.three.run(0.2)

        self.assertEqual(self.lines(self.behind), 51)

    def test_crash_before_the_content_is_swapped(self) -> None:
        """A process that dies before the swap restarts with what it had, and gets its snapshot again."""
        machine = self.three.machines[self.behind]
        began: list[JournalImport] = []

        def never_finish(self: JournalImport) -> Deferred[None]:
            began.append(self)
            return Deferred()

        patched = self.patch(JournalImport, "finish", never_finish)
        self.heal()
        self.assertEqual((len(began), machine.applied_index < 50), (1, True))

        patched.restore()
        self.three.crash(self.behind).open_group(GROUP, dict(self.three.peers), machine)
        self.three.run(3)

        self.assertEqual(self.lines(self.behind), 50)


class HeldLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers, of which one follower is getting a snapshot that it takes in chunk by chunk."""
        self.machines: dict[str, Journal] = {name: Hesitant() for name in "ABC"}
        limits = Limits(log_bytes_max=SMALL.log_bytes_max, held_bytes_max=10 * SMALL.log_bytes_max)
        self.three = three = Three(self.machines, limits)
        three.run(2)
        self.leader = three.leader()
        self.behind = next(name for name in "ABC" if name != self.leader)
        three.network.cut.add(self.behind)
        for _ in range(30):
            self.write()
        three.network.cut.clear()
        three.run(2)

    def write(self) -> None:
        """Have one line acknowledged."""
        _ = self.three.network.nodes[self.leader].propose(GROUP, LINE)
        self.three.run(0.02)

    def take_chunks(self) -> None:
        """Let the follower take one chunk after the other, and write a line after each."""
        machine = self.machines[self.behind]
        assert isinstance(machine, Hesitant)
        for _ in range(100):
            if machine.chunks:
                machine.chunks.pop(0).callback(None)
                self.three.run(0.02)
                self.write()
        self.three.run(1)

    def snapshots(self) -> int:
        """Return how many snapshots were begun."""
        sent = [item for *_, item in self.three.network.sent if isinstance(item, SnapshotChunk)]
        return sum(chunk.message is not None for chunk in sent)

    def test_one_snapshot_is_enough(self) -> None:
        """A follower catches up even if more is written during its snapshot than the log usually keeps."""
        self.take_chunks()

        self.assertEqual(self.snapshots(), 1)
        self.assertEqual(len(self.machines[self.behind].lines), len(self.machines[self.leader].lines))

    def test_log_is_cut_again_after_it(self) -> None:
        """Once the follower has its snapshot the log is as short as before."""
        self.take_chunks()
        self.write()

        self.assertLess(self.three.wals[self.leader].group_bytes(GROUP), 2 * SMALL.log_bytes_max)

    def test_log_is_held_within_bounds(self) -> None:
        """A snapshot that takes for ever does not keep the log for ever."""
        for _ in range(200):
            self.write()

        self.assertLess(self.three.wals[self.leader].group_bytes(GROUP), 12 * SMALL.log_bytes_max)

    def test_nothing_is_held_for_the_dead(self) -> None:
        """A follower that is gone in the middle of its snapshot keeps nothing back once the transfer is given up."""
        self.three.network.cut.add(self.behind)
        self.three.run(STALL_SECONDS + 5)
        for _ in range(30):
            self.write()

        self.assertLess(self.three.wals[self.leader].group_bytes(GROUP), 2 * SMALL.log_bytes_max)


class Hesitant(Journal):
    """A state machine that takes the chunks of a copy when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[Deferred[None]] = []

    def begin_import(self) -> JournalImport:
        """Begin to take another journal's lines."""
        return HesitantImport(self)


class HesitantImport(JournalImport):
    def __init__(self, journal: Hesitant) -> None:
        super().__init__(journal)
        self._waiting = journal.chunks

    def write(self, chunk: bytes) -> Deferred[None]:
        """Take a chunk, later."""
        _ = super().write(chunk)
        self._waiting.append(Deferred())
        return self._waiting[-1]


class CompactionTests(SynchronousTestCase):
    def test_state_machine_behind_the_log_is_refused(self) -> None:
        """A state machine that was lost after its log was compacted can't be filled from that log (RAFT_RULES 10)."""
        three = Three(limits=SMALL)
        three.run(2)
        for _ in range(50):
            _ = three.network.nodes[three.leader()].propose(GROUP, LINE)
            three.run(0.02)

        node = three.crash("A")

        self.assertRaises(LostData, node.open_group, GROUP, dict(three.peers), Journal())
        self.assertEqual(node.recovered_ids, [GROUP])

    def test_compaction_waits_for_the_store(self) -> None:
        """Nothing is dropped from the log that the state machine has not on its disk (RAFT_RULES 8)."""
        three = Three({name: Undurable() for name in "ABC"}, SMALL)
        three.run(2)
        for _ in range(50):
            _ = three.network.nodes[three.leader()].propose(GROUP, LINE)
            three.run(0.02)

        sizes = [wal.group_bytes(GROUP) for wal in three.wals.values()]

        self.assertTrue(all(size > 5000 for size in sizes), sizes)

    def test_compaction_goes_on_in_another_turn(self) -> None:
        """A turn drops so many entries at most, so that a log of many short ones holds up no heartbeat."""
        self.patch(compaction, "COMPACTED_PER_TURN_MAX", 10)
        machines: dict[str, Journal] = {name: Unhurried() for name in "ABC"}
        three = Three(machines, SMALL)
        three.run(2)
        for _ in range(50):
            _ = three.network.nodes[three.leader()].propose(GROUP, LINE)
            three.run(0.02)
        slow = machines["A"]
        assert isinstance(slow, Unhurried)
        replica = three.network.nodes["A"].open_groups()[0]

        first_indexes = []
        while slow.asked:
            slow.asked.pop(0).callback(slow.applied_index)
            first_indexes.append(replica.log.first_index())

        self.assertEqual(first_indexes, [11, 21, 31, 41, 47])


class Unhurried(Journal):
    """A state machine that says what is on its disk when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Deferred[int]] = []

    def make_durable(self) -> Deferred[int]:
        """Leave it for later."""
        self.asked.append(Deferred())
        return self.asked[-1]


class Undurable(Journal):
    """A state machine of which nothing ever reaches the disk."""

    def make_durable(self) -> Deferred[int]:
        """Say that nothing did."""
        return succeed(0)
