"""A replica: entries become transactions of its store, the long ones without holding up the reactor."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dbnode.memory import MemoryStore
from dbnode.replica import DECODE_INLINE_BYTES_MAX, Replica
from dbnode.test.test_store import STUDENTS
from dbnode.test.thread_on_call import ThreadOnCall
from dbnode.wire import Batch, OpenSession, Stored, Write, encode_command
from raftlog.messages import Entry


class Applying(SynchronousTestCase):
    def setUp(self) -> None:
        """Open a replica with a session."""
        self.thread = ThreadOnCall()
        self.replica = Replica(1, 1, "sh1", STUDENTS, MemoryStore(STUDENTS), self.thread)
        self.successResultOf(Deferred.fromCoroutine(self.replica.open()))
        self.replica.apply([Entry(1, 1, data=encode_command(OpenSession("s", 0)))])

    def entry(self, name: str) -> Entry:
        """Return an entry that stores a row."""
        return Entry(1, 2, data=encode_command(Batch("s", 1, 0, 0, (Write(((7, name, 1),)),))))

    def test_short_entries_at_once(self) -> None:
        """A short entry is applied when apply returns."""
        outcomes = self.replica.apply([self.entry("x")])

        self.assertEqual(outcomes, [(Stored(1),)])
        self.assertEqual((self.replica.applied_index, self.replica.row_count), (2, 1))

    def test_long_entries_in_the_thread(self) -> None:
        """A long entry is decoded in the thread and applied after that, with the same outcome."""
        outcomes = self.replica.apply([self.entry("x" * DECODE_INLINE_BYTES_MAX)])
        assert isinstance(outcomes, Deferred)
        self.assertNoResult(outcomes)
        self.assertEqual(self.replica.applied_index, 1)

        self.thread.run()

        self.assertEqual(self.successResultOf(outcomes), [(Stored(1),)])
        self.assertEqual((self.replica.applied_index, self.replica.row_count), (2, 1))
