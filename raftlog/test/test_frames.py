"""Frames: any way of cutting a stream gives the same payloads, and no length is believed blindly."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftlog.link.frames import EMPTY_FRAME, FrameDecoder, FrameError, first_payload, frame

#: The same examples in every run, and no limit of time for one: the machine may be busy.
settled = settings(derandomize=True, deadline=None)

payload_lists = st.lists(st.binary(max_size=40), max_size=8)


def fed(decoder: FrameDecoder, chunks: list[bytes]) -> list[bytes]:
    """Return all payloads that come out of feeding the chunks."""
    return [bytes(payload) for chunk in chunks for payload in decoder.feed(chunk)]


class DecoderTests(SynchronousTestCase):
    def test_payloads_stay_as_they_are(self) -> None:
        """A payload is a view, but of nothing that later reads change."""
        decoder = FrameDecoder(10)
        stream = frame(b"one") + frame(b"two") + frame(b"three")

        kept = [payload for place in range(0, len(stream), 5) for payload in decoder.feed(stream[place : place + 5])]

        self.assertEqual(kept, [b"one", b"two", b"three"])

    def test_several_in_one_read(self) -> None:
        """All frames that a read completes come out at once, empty ones too."""
        payloads = FrameDecoder(10).feed(frame(b"one") + EMPTY_FRAME + frame(b"two") + b"\0")

        self.assertEqual(payloads, [b"one", b"", b"two"])

    @settled
    @given(payload_lists)
    def test_byte_by_byte(self, payloads: list[bytes]) -> None:
        """A stream may come in single bytes."""
        stream = b"".join(map(frame, payloads))

        self.assertEqual(fed(FrameDecoder(40), [bytes((byte,)) for byte in stream]), payloads)

    @settled
    @given(payload_lists, st.lists(st.integers(0, 400), max_size=10))
    def test_any_cut(self, payloads: list[bytes], cuts: list[int]) -> None:
        """Where reads end makes no difference."""
        stream = b"".join(map(frame, payloads))
        places = sorted({0, *cuts, len(stream)})
        chunks = [stream[start:stop] for start, stop in pairwise(places)]

        self.assertEqual(fed(FrameDecoder(40), chunks), payloads)

    def test_largest(self) -> None:
        """The limit itself is allowed."""
        self.assertEqual(FrameDecoder(3).feed(frame(b"abc")), [b"abc"])

    def test_too_large(self) -> None:
        """A length above the limit is refused before anything of the frame has come."""
        error = self.assertRaises(FrameError, FrameDecoder(3).feed, frame(b"abcd")[:4])

        self.assertEqual(str(error), "a frame of 4 bytes, at most 3 are allowed")

    def test_too_large_after_a_good_one(self) -> None:
        """Every length is looked at, also when its first bytes came with an earlier read."""
        decoder = FrameDecoder(3)
        decoder.feed(frame(b"abc") + b"\0\0")

        self.assertRaises(FrameError, decoder.feed, b"\1\0")

    @settled
    @given(st.lists(st.binary(max_size=200), max_size=20))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Any bytes give payloads within the limit or FrameError; what is kept is less than one frame."""
        decoder = FrameDecoder(64)
        try:
            payloads = fed(decoder, chunks)
        except FrameError:
            return

        self.assertTrue(all(len(payload) <= 64 for payload in payloads))
        kept = sum(map(len, chunks)) - sum(4 + len(payload) for payload in payloads)
        self.assertTrue(0 <= kept < 4 + 64)


class FirstPayloadTests(SynchronousTestCase):
    def test_incomplete(self) -> None:
        """There is none before its last byte has come."""
        whole = frame(b"abc")

        self.assertEqual([first_payload(whole[:length], 3) for length in range(7)], [None] * 7)
        self.assertEqual(first_payload(whole + b"more", 3), b"abc")

    def test_too_large(self) -> None:
        """A length above the limit is refused at once."""
        self.assertRaises(FrameError, first_payload, frame(b"abcd")[:4], 3)
