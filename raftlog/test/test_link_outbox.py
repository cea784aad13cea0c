"""The outbox: one write per turn, bounded while nothing can be written, nothing lost without being counted."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link.frames import FrameDecoder, frame
from raftlog.link.options import LinkCounters, LinkOptions
from raftlog.link.outbox import Outbox, Turn
from raftlog.test.link_rigs import decode, encode


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have an outbox that is attached to a list of writes."""
        self.clock = Clock()
        self.counters = LinkCounters()
        self.writes: list[bytes] = []
        self.outbox = self.make()
        self.outbox.attach(self.writes.append)

    def make(self, **limits: int) -> Outbox:
        """Return an outbox that is not attached."""
        return Outbox(Turn(self.clock), encode, LinkOptions(**limits), self.counters)

    def written(self) -> list[Any]:
        """Return the items of each frame written so far."""
        return [decode(payload) for payload in FrameDecoder(1 << 20).feed(b"".join(self.writes))]

    def test_one_write_per_turn(self) -> None:
        """Everything put in one turn is one write at its end."""
        for item in (1, 2, 3):
            self.outbox.put(item)
        before = list(self.writes)
        self.clock.advance(0)

        self.assertEqual(before, [])
        self.assertEqual(self.writes, [frame(encode([1, 2, 3]))])
        self.assertEqual((self.counters.frames_sent, self.counters.bytes_sent), (1, len(self.writes[0])))

    def test_what_was_due_goes_along(self) -> None:
        """What calls that were due already put at the end of the turn is in the same frame."""
        self.clock.callLater(0, self.outbox.put, "due")
        self.outbox.put("now")
        self.clock.advance(0)

        self.assertEqual(self.written(), [["now", "due"]])

    def test_held_until_attached(self) -> None:
        """Frames wait for a connection and leave in order."""
        outbox = self.make()
        for item in (1, 2):
            outbox.put(item)
            self.clock.advance(0)
        before = list(self.writes)
        outbox.attach(self.writes.append)

        self.assertEqual(before, [])
        self.assertEqual(self.written(), [[1], [2]])

    def test_bounded_while_paused(self) -> None:
        """Above the limit of bytes items are refused and counted; after resuming they are taken again."""
        outbox = self.make(queue_bytes_max=100)
        accepted = []
        for _ in range(5):
            accepted.append(outbox.put(b"x" * 40))
            self.clock.advance(0)
        outbox.attach(self.writes.append)

        self.assertEqual(accepted, [True, True, True, False, False])
        self.assertEqual(self.counters.items_dropped, 2)
        self.assertEqual(len(self.written()), 3)
        self.assertTrue(outbox.put(b"x"))

    def test_pause_in_the_middle_of_resuming(self) -> None:
        """A transport that has enough again stops the flow of held frames."""
        outbox = self.make()
        for item in (1, 2):
            outbox.put(item)
            self.clock.advance(0)

        def write(data: bytes) -> None:
            self.writes.append(data)
            outbox.pause()

        outbox.attach(write)
        first = self.written()
        outbox.resume()

        self.assertEqual(first, [[1]])
        self.assertEqual(self.written(), [[1], [2]])

    def test_larger_than_a_frame(self) -> None:
        """A turn that does not fit into one frame becomes several, in order."""
        outbox = self.make(frame_bytes_max=100)
        outbox.attach(self.writes.append)
        for number in range(10):
            outbox.put([number, b"x" * 30])
        self.clock.advance(0)

        self.assertTrue(all(len(data) <= 104 for data in self.writes))
        self.assertEqual([item[0] for items in self.written() for item in items], list(range(10)))

    def test_item_larger_than_a_frame(self) -> None:
        """An item that fits into no frame is dropped and counted; its neighbours are not."""
        outbox = self.make(frame_bytes_max=100)
        outbox.attach(self.writes.append)
        for item in (1, b"x" * 200, 2):
            outbox.put(item)
        self.clock.advance(0)

        self.assertEqual([item for items in self.written() for item in items], [1, 2])
        self.assertEqual(self.counters.items_dropped, 1)

    def test_item_that_cannot_be_encoded(self) -> None:
        """Our own mistake is logged, and costs only the turn's frame on this connection."""
        other = Outbox(self.outbox._turn, encode, LinkOptions(), self.counters)
        other.attach(self.writes.append)
        self.outbox.put(object())
        other.put("fine")
        self.clock.advance(0)

        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.written(), [["fine"]])
        self.assertEqual(self.counters.items_dropped, 1)

    def test_close(self) -> None:
        """Closing drops and counts what waits, in frames and not, and refuses more."""
        outbox = self.make()
        outbox.put(1)
        outbox.put(2)
        self.clock.advance(0)
        outbox.put(3)
        outbox.close()
        accepted = outbox.put(4)
        self.clock.advance(0)

        self.assertFalse(accepted)
        self.assertEqual(self.counters.items_dropped, 4)
