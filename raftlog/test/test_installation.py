"""Installing a snapshot is one transition, whatever else happens meanwhile (RAFT_RULES 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import (
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    Snapshot,
    SnapshotAck,
    SnapshotChunk,
)
from raftlog.options import Limits
from raftlog.test.three import GROUP, Journal, JournalImport, Three
from raftlog.wal import SnapshotIncoming

#: Room for a few of the entries below.
SMALL = Limits(log_bytes_max=1000)
LINE = b"x" * 100


class PatientImport(JournalImport):
    """A copy whose last step waits for a test."""

    def __init__(self, journal: Journal, step: Deferred[None]) -> None:
        super().__init__(journal)
        self._step = step

    def finish(self) -> Deferred[None]:
        """Replace the journal's content when told to."""
        return self._step.addCallback(lambda _: JournalImport.finish(self))


class PatientJournal(Journal):
    """A state machine that applies, and begins and ends copies, when told to: each waits for what is set."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: Deferred[None] | None = None
        self.exported: Deferred[None] | None = None
        self.finished: Deferred[None] | None = None

    def apply(self, entries: Sequence[Entry]) -> Any:
        """Append each entry's data, perhaps later."""
        if self.applied is None:
            return super().apply(entries)
        return self.applied.addCallback(lambda _: Journal.apply(self, entries))

    def export(self, chunk_bytes: int) -> Deferred[Any]:
        """Copy it as it is now, and hand the copy over later."""
        copy = super().export(chunk_bytes)
        if self.exported is None:
            return copy
        return self.exported.addCallback(lambda _: copy)

    def begin_import(self) -> JournalImport:
        """Begin to take another journal's lines."""
        return JournalImport(self) if self.finished is None else PatientImport(self, self.finished)


class InstallationTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers, and one of the followers."""
        self.machines = {name: PatientJournal() for name in "ABC"}
        self.three = Three(dict(self.machines), SMALL)
        self.three.run(2)
        self.leader = self.three.leader()
        self.behind = next(name for name in "ABC" if name != self.leader)

    def tearDown(self) -> None:
        """No driver ended its process."""
        self.assertEqual(self.three.failures, [])

    def write(self, count: int) -> None:
        """Have lines acknowledged."""
        for _ in range(count):
            write = self.three.network.nodes[self.leader].propose(GROUP, LINE)
            self.three.run(0.02)
            self.successResultOf(write)

    def fall_behind(self) -> None:
        """Cut the follower off until only a snapshot can bring it back."""
        self.three.network.cut.add(self.behind)
        self.write(50)
        self.three.network.cut.clear()

    def test_an_installation_that_was_given_up(self) -> None:
        """Entries that came by the log instead of a snapshot stay, though the intention is in the log for ever."""
        self.write(5)
        self.three.run(0.05)
        machine = self.machines[self.behind]
        last = machine.applied_index
        intended = Snapshot(last - 2, 1, ConfState(voters=(1, 2, 3)))
        self.three.wals[self.behind].submit([SnapshotIncoming(GROUP, intended)], lambda: None)

        node = self.three.crash(self.behind)
        # The store lost its newest transactions with the power, as it may: the log has them.
        machine.applied_index, machine.lines = intended.index, machine.lines[:-2]
        node.open_group(GROUP, dict(self.three.peers), machine)

        self.assertEqual(node.status(GROUP).last_index, last)

    def test_the_same_again_while_the_log_takes_note_of_it(self) -> None:
        """A copy that comes until the installation of the one before is on the disk is refused, and later ones are not.

        To the core it would look like the one that it waits for, which nobody would ever install.
        """
        finished: Deferred[None] = Deferred()
        machine, wal = self.machines[self.behind], self.three.wals[self.behind]
        machine.finished = finished
        self.fall_behind()
        self.three.run(1)
        sent = self.three.network.sent
        chunks = [item for _, to, _, item in sent if to == self.behind and isinstance(item, SnapshotChunk)]
        wal.auto = False
        machine.finished = None
        finished.callback(None)
        self.three.run(0.05)

        again = [replace(chunk, transfer_id=99) for chunk in chunks if chunk.transfer_id == chunks[0].transfer_id]
        self.three.network.nodes[self.behind].receive(again)
        self.three.run(0.05)
        wal.sync()
        wal.auto = True
        self.three.run(1)
        self.fall_behind()
        self.three.run(3)

        answers = [item for *_, item in sent if isinstance(item, SnapshotAck) and item.transfer_id == 99]
        self.assertEqual([answer.refusal for answer in answers], ["another snapshot is being installed"])
        self.assertEqual(len(machine.lines), 100)

    def test_log_compacted_beyond_the_copy(self) -> None:
        """A copy that is handed over when the log has moved on past it is not sent; the next one is."""
        begun: Deferred[None] = Deferred()
        self.fall_behind()
        self.machines[self.leader].exported = begun
        self.three.run(0.5)
        self.write(50)

        self.machines[self.leader].exported = None
        begun.callback(None)
        self.three.run(3)

        self.assertEqual(len(self.machines[self.behind].lines), 100)

    def test_change_of_membership_being_applied(self) -> None:
        """A snapshot brings its own configuration: a change before it that was being applied comes too late for it."""
        applied: Deferred[None] = Deferred()
        self.machines[self.behind].applied = applied
        leader = self.three.network.nodes[self.leader]
        learner = ConfChangeSingle(ConfChangeType.ADD_LEARNER, 9)
        joined = leader.propose_conf_change(GROUP, ConfChangeV2(changes=(learner,)))
        self.three.run(0.5)
        self.three.network.cut.add(self.behind)
        joint = leader.propose_conf_change(GROUP, ConfChangeV2(ConfChangeTransition.EXPLICIT, (learner,)))
        self.write(50)
        self.three.network.cut.clear()
        self.three.run(1)

        self.machines[self.behind].applied = None
        applied.callback(None)
        self.three.run(1)

        self.successResultOf(joined)
        self.successResultOf(joint)
        conf_state = leader.status(GROUP).conf_state
        self.assertEqual(conf_state.voters_outgoing, (1, 2, 3))
        self.assertEqual(self.three.network.nodes[self.behind].status(GROUP).conf_state, conf_state)
        self.assertEqual(self.machines[self.behind].lines, self.machines[self.leader].lines)

    def test_replica_destroyed_meanwhile(self) -> None:
        """A replica that is destroyed while its snapshot is put in place stays destroyed, and nothing breaks."""
        finished: Deferred[None] = Deferred()
        self.machines[self.behind].finished = finished
        self.fall_behind()
        self.three.run(1)
        node = self.three.network.nodes[self.behind]

        removed = node.remove_group(GROUP)
        finished.callback(None)
        self.three.run(0.1)

        self.successResultOf(removed)
        self.assertEqual(self.three.crash(self.behind).recovered_ids, [])
