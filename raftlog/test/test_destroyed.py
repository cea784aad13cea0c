"""A replica is destroyed while its state machine is at work: what that still had to say ends nothing."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftlog.options import Limits
from raftlog.test.three import GROUP, Journal, JournalExport, JournalImport, Three

#: Room for a few of the entries below.
SMALL = Limits(log_bytes_max=1000)
LINE = b"x" * 100


class ClosedError(Exception):
    """The state machine is not there any more."""


class Copy(JournalExport):
    """A copy that is ended in the middle. `asked` is fired when that is to happen."""

    def __init__(self, asked: Deferred[Any]) -> None:
        super().__init__(50, [])
        self._asked = asked

    def next_chunk(self) -> Deferred[bytes | None]:
        """Wait to be ended."""
        return self._asked


class ClosableJournal(Journal):
    """A state machine that can be closed: all that runs, and all that is asked afterwards, fails."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Deferred[Any]] = []
        self.is_patient = False

    def _begin(self) -> Deferred[Any]:
        running: Deferred[Any] = Deferred()
        self.running.append(running)
        return running

    def export(self, chunk_bytes: int) -> Deferred[Any]:
        """Begin a copy."""
        if not self.is_patient:
            return super().export(chunk_bytes)
        copy: Any = Copy(self._begin())
        begun: Deferred[Any] = Deferred()
        copy.applied_index = self.applied_index
        begun.callback(copy)
        return begun

    def make_durable(self) -> Deferred[int]:
        """Begin to bring it to the disk."""
        return self._begin() if self.is_patient else super().make_durable()

    def begin_import(self) -> JournalImport:
        """Begin to take another journal's lines."""
        return PatientImport(self, self._begin) if self.is_patient else super().begin_import()

    def close(self) -> None:
        """End everything."""
        for running in self.running:
            running.errback(ClosedError())


class PatientImport(JournalImport):
    """A copy whose last step ends when its journal is closed."""

    def __init__(self, journal: Journal, begin: Any) -> None:
        super().__init__(journal)
        self._begin = begin

    def finish(self) -> Deferred[None]:
        """Begin to replace the content."""
        step: Deferred[None] = self._begin()
        return step


class DestroyedTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three servers, of which a follower was cut off until only a snapshot can bring it back."""
        self.machines = {name: ClosableJournal() for name in "ABC"}
        self.three = Three(dict(self.machines), SMALL)
        self.three.run(2)
        self.leader = self.three.leader()
        self.behind = next(name for name in "ABC" if name != self.leader)
        self.three.network.cut.add(self.behind)
        for _ in range(50):
            write = self.three.network.nodes[self.leader].propose(GROUP, LINE)
            self.three.run(0.02)
            self.successResultOf(write)

    def destroy(self, name: str) -> None:
        """Destroy a replica that has begun something, as a host does: the group first, then the state machine."""
        self.assertNotEqual(self.machines[name].running, [])
        removed = self.three.network.nodes[name].remove_group(GROUP)
        self.machines[name].close()
        self.three.run(1)

        self.successResultOf(removed)
        self.assertEqual(self.three.failures, [])

    def test_while_it_sends_a_snapshot(self) -> None:
        """The copy going out ends with the replica."""
        self.machines[self.leader].is_patient = True
        self.three.network.cut.clear()
        self.three.run(1)

        self.destroy(self.leader)

    def test_while_it_installs_a_snapshot(self) -> None:
        """The copy coming in ends with the replica, which the log forgets."""
        self.machines[self.behind].is_patient = True
        self.three.network.cut.clear()
        self.three.run(1)

        self.destroy(self.behind)

        self.assertEqual(self.three.crash(self.behind).recovered_ids, [])

    def test_while_it_compacts(self) -> None:
        """A compaction that had begun does not happen."""
        (group,) = self.three.network.nodes[self.leader].open_groups()
        self.machines[self.leader].is_patient = True
        first = group.log.first_index()
        group.compact(0)

        self.destroy(self.leader)

        self.assertEqual(group.log.first_index(), first)

    def test_before_it_compacts(self) -> None:
        """None begins."""
        (group,) = self.three.network.nodes[self.leader].open_groups()
        asked: list[str] = []

        def make_durable() -> Deferred[int]:
            asked.append("to be durable")
            return Deferred()

        self.patch(self.machines[self.leader], "make_durable", make_durable)
        self.successResultOf(self.three.network.nodes[self.leader].remove_group(GROUP))

        group.compact(0)

        self.assertEqual(asked, [])


class MemoryTests(SynchronousTestCase):
    def freed(self, leads: bool) -> bool:
        """Destroy a replica that leads or follows, and return whether nothing is left of it and its log."""
        three = Three()
        three.run(2)
        write = three.network.nodes[three.leader()].propose(GROUP, b"line")
        three.run(0.2)
        self.successResultOf(write)
        node = three.network.nodes[next(name for name in "ABC" if (name == three.leader()) is leads)]
        (group,) = node.open_groups()
        left_of_it, left_of_log = weakref.ref(group), weakref.ref(group.log)
        del group
        gc.disable()
        self.addCleanup(gc.enable)

        removed = node.remove_group(GROUP)
        three.run(0.2)

        self.successResultOf(removed)
        return left_of_it() is None and left_of_log() is None

    def test_freed_at_once(self) -> None:
        """What a destroyed replica held is free without a search for cycles.

        A server leaves out of that what it started with (dbnode.tap), and a log may be 16 MiB long.
        """
        self.assertTrue(self.freed(leads=True))
        self.assertTrue(self.freed(leads=False))
