"""Rows stored while they come: in bounded memory, and with the truth about them when something fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import Response
from dbnode.schema import rows_to_lines
from dbnode.wire import LINEARIZABLE, Operation, Propose, Result
from lbnode.bulk import BYTES_AHEAD_MAX, ROWS_AHEAD_MAX, ROWS_TOGETHER, store_lines
from lbnode.router import RouterOptions
from lbnode.routes import Route
from lbnode.test.shards import STUDENTS, MemoryShards, layout, router_over

PIECE_ROWS = 500
SHARD_ROWS = 100_000


class ClientGone(Exception):
    """The body ends because nobody sends it any more."""


class BulkCase(SynchronousTestCase):
    """Two shards, and a body of rows in pieces."""

    def setUp(self) -> None:
        """Make the shards, empty."""
        self.clock = Clock()
        self.shards = MemoryShards(self.clock)
        self.router = router_over(self.shards, RouterOptions(deadline_seconds=2.0))
        self.router.configure(layout(SHARD_ROWS, SHARD_ROWS))
        self.pieces_taken = 0

    async def pieces(self, ids: range, name: str = "n", gone: bool = False) -> AsyncIterator[bytes]:
        """Yield rows as lines."""
        for start in range(ids.start, ids.stop, PIECE_ROWS):
            self.pieces_taken += 1
            keys = range(start, min(ids.stop, start + PIECE_ROWS))
            yield rows_to_lines(STUDENTS, [(key, name, key) for key in keys])
        if gone:
            raise ClientGone

    def store(self, pieces: AsyncIterator[bytes]) -> Deferred[Response]:
        """Begin to store a body."""
        return store_lines(self.router, {}, pieces)

    def settled(self, pending: Deferred[Any]) -> Deferred[Any]:
        """Let what was begun come to its end."""
        while not pending.called:
            self.clock.advance(0.01)
        return pending

    def count(self) -> int:
        """Return how many rows are stored."""
        total = 0
        for route in self.router.routes():
            page = self.router.read(route, route.low, route.high, 0, LINEARIZABLE)
            total += self.successResultOf(self.settled(page)).count
        return total

    def changes(self) -> int:
        """Return how many batches shards were asked to apply."""
        return sum(isinstance(request, Propose) for _, request in self.shards.asked)


class Load(BulkCase):
    def test_client_is_read_no_faster_than_shards_store(self) -> None:
        """While a shard cannot store, only so many rows are taken; afterwards all the others are, too."""
        self.router.options = RouterOptions(deadline_seconds=60.0, page_bytes=64 << 20)
        rows = 4 * ROWS_AHEAD_MAX
        self.shards.leaderless = {1}

        pending = self.store(self.pieces(range(rows)))
        self.clock.pump([0.01] * 100)
        taken = self.pieces_taken * PIECE_ROWS
        self.shards.leaderless = set()
        answer = self.successResultOf(self.settled(pending))

        self.assertLessEqual(taken, ROWS_AHEAD_MAX + PIECE_ROWS)
        self.assertEqual(answer.body, b'{"message":"%d Data entries added","status":"success"}' % rows)
        self.assertEqual(self.count(), rows)

    def test_large_rows_are_bounded_by_their_bytes(self) -> None:
        """Few rows may be too many bytes."""
        self.router.options = RouterOptions(deadline_seconds=60.0)
        self.shards.leaderless = {1}
        name = "n" * 10_000

        pending = self.store(self.pieces(range(10 * PIECE_ROWS), name))
        self.clock.pump([0.01] * 100)
        taken = self.pieces_taken * PIECE_ROWS * len(name)
        self.shards.leaderless = set()
        self.successResultOf(self.settled(pending))

        self.assertLessEqual(taken, BYTES_AHEAD_MAX + PIECE_ROWS * len(name))

    def test_long_lines_are_bounded_however_they_are_cut(self) -> None:
        """A line counts for all of its pieces, not only for the one that ends it."""
        self.router.options = RouterOptions(deadline_seconds=60.0)
        self.shards.leaderless = {1}
        lines = [rows_to_lines(STUDENTS, [(key, "n" * 100_000, key)]) for key in range(300)]
        taken: list[bytes] = []

        async def in_two() -> AsyncIterator[bytes]:
            for line in lines:
                taken.append(line)
                yield line[:-1]
                yield line[-1:]

        pending = self.store(in_two())
        self.clock.pump([0.01] * 100)
        taken_bytes = sum(map(len, taken))
        self.shards.leaderless = set()
        self.successResultOf(self.settled(pending))

        self.assertLessEqual(taken_bytes, BYTES_AHEAD_MAX + len(lines[-1]))

    def test_rows_travel_together(self) -> None:
        """A thousand rows are one change."""
        self.successResultOf(self.settled(self.store(self.pieces(range(10 * ROWS_TOGETHER)))))

        self.assertLessEqual(self.changes(), 10)


class Failing(BulkCase):
    def fails(self, pending: Deferred[Response]) -> ApiError:
        """Return what a client is told."""
        error = self.failureResultOf(self.settled(pending), ApiError).value
        assert isinstance(error, ApiError)
        return error

    def test_shard_without_a_leader(self) -> None:
        """Reading ends soon after the failure, and the answer counts what other shards stored."""
        self.shards.leaderless = {2}

        error = self.fails(self.store(self.pieces(range(SHARD_ROWS - 5000, 2 * SHARD_ROWS))))

        self.assertEqual((error.status, error.code, error.applied), (503, "no_quorum", "partial"))
        self.assertEqual(error.extra["rows_stored"], 5000)
        self.assertEqual(self.count_of_first(), 5000)
        self.assertLessEqual(self.pieces_taken * PIECE_ROWS, 5000 + ROWS_AHEAD_MAX + PIECE_ROWS)

    def count_of_first(self) -> int:
        """Return how many rows the first shard has."""
        self.shards.leaderless = set()
        return self.count()

    def test_outcome_unknown(self) -> None:
        """One part whose outcome nobody knows makes the whole unknown, whatever else fails."""
        self.successResultOf(self.settled(self.store(self.pieces(range(SHARD_ROWS - 1, SHARD_ROWS + 1)))))
        self.shards.forgetful = {1}
        self.shards.leaderless = {2}

        error = self.fails(self.store(self.pieces(range(SHARD_ROWS - 2000, SHARD_ROWS + 2000))))

        self.assertEqual((error.status, error.applied), (504, "unknown"))

    def test_our_own_mistake(self) -> None:
        """Where storing fails by a mistake of ours nobody knows what was stored, whatever else fails."""
        self.shards.leaderless = {2}
        change = self.router.change

        def mistaken(route: Route, operation: Operation) -> Deferred[Result]:
            return fail(ValueError("a mistake")) if route.low == 0 else change(route, operation)

        self.patch(self.router, "change", mistaken)
        error = self.fails(self.store(self.pieces(range(SHARD_ROWS - 2000, SHARD_ROWS + 2000))))

        self.assertEqual((error.code, error.applied), ("internal_error", "unknown"))
        self.assertNotEqual(self.flushLoggedErrors(ValueError), [])

    def test_id_of_no_shard(self) -> None:
        """What was stored before is told, and nothing else is said of it."""
        error = self.fails(self.store(self.pieces(range(2 * SHARD_ROWS - 5000, 2 * SHARD_ROWS + 1))))

        self.assertEqual((error.code, error.applied, error.extra["rows_stored"]), ("no_shard", "partial", 5000))
        self.assertNotIn("nothing", error.text)

    def test_client_goes_away(self) -> None:
        """What was on its way is carried out, and nothing is left behind."""
        pending = self.store(self.pieces(range(3000), gone=True))

        self.failureResultOf(self.settled(pending), ClientGone)

        self.assertEqual(self.count() % ROWS_TOGETHER, 0)
        self.assertEqual(self.router.changes_waiting, 0)

    def test_table_is_replaced(self) -> None:
        """Rows of one table are never stored in another."""
        pieces = self.pieces(range(10 * PIECE_ROWS))

        async def replaced() -> AsyncIterator[bytes]:
            async for piece in pieces:
                yield piece
                self.router.configure(None)

        error = self.fails(self.store(replaced()))

        self.assertEqual((error.status, error.code), (409, "not_initialised"))
