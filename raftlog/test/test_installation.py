"""Installing a snapshot is one transition, whatever else happens meanwhile (RAFT_RULES 9)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftlog.messages import ConfState, Snapshot
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
    """A state machine whose copies begin and end when told to. `exported` and `finished` are what they wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.exported: Deferred[None] | None = None
        self.finished: Deferred[None] | None = None

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
        machine = self.machines[self.behind]
        last = machine.applied_index
        intended = Snapshot(last - 2, 1, ConfState(voters=(1, 2, 3)))
        self.three.wals[self.behind].submit([SnapshotIncoming(GROUP, intended)], lambda: None)

        node = self.three.crash(self.behind)
        # The store lost its newest transactions with the power, as it may: the log has them.
        machine.applied_index, machine.lines = intended.index, machine.lines[:-2]
        node.open_group(GROUP, dict(self.three.peers), machine)

        self.assertEqual(node.status(GROUP).last_index, last)

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
