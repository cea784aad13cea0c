"""How much disk the log of a real server takes while a lot goes through it: `make test-slow`, a minute."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dbnode.client import ShardSession
from dbnode.testing.process_cluster import ProcessCluster
from dbnode.wire import Write
from raftlog.options import Limits
from raftlog.wal.options import Options

OPTIONS = Options()
BUSY, IDLE_SMALL, IDLE_LARGE = 1, 2, 3
ROW_BYTES = 10_000
ROWS_PER_WRITE = 25
#: Enough for the segments that an idle group would pin, and as many again.
SEGMENTS_WRITTEN = 8
#: What is kept for idle groups, the segment being written, the next one, a spare and the reserve.
SEGMENTS_MAX = OPTIONS.segments_kept + 4
TIMEOUT_SECONDS = 60.0


class LogRetentionTests(TestCase):
    timeout = 600

    def setUp(self) -> None:
        """Choose a directory."""
        self.directory = Path(self.mktemp()).absolute()

    def test_log_stays_bounded(self) -> Deferred[None]:
        """The log keeps to its bound beside idle groups, large and small, and after kill -9 everything is there."""
        return Deferred.fromCoroutine(self._stays_bounded())

    async def _stays_bounded(self) -> None:
        async with self.one_server() as cluster:
            ids = {group_id: count() for group_id in cluster.group_ids}
            sessions = {group_id: cluster.session(group_id) for group_id in cluster.group_ids}
            await _write(sessions[IDLE_SMALL], ids[IDLE_SMALL], 10)
            await _write(sessions[IDLE_LARGE], ids[IDLE_LARGE], Limits().log_bytes_max // 2 // ROW_BYTES)
            sizes = []
            for segment in range(2 * SEGMENTS_WRITTEN):
                if segment == SEGMENTS_WRITTEN:
                    await cluster.servers["Server0"].kill()
                    await cluster.start_again("Server0")
                await _write(sessions[BUSY], ids[BUSY], OPTIONS.segment_bytes // ROW_BYTES)
                sizes.append(_size(cluster.servers["Server0"].directory / "wal"))
            await cluster.servers["Server0"].kill()
            await cluster.start_again("Server0")
            found = {group_id: (await cluster.agreed(group_id)).row_count for group_id in cluster.group_ids}

        self.assertEqual(found, {group_id: next(ids[group_id]) for group_id in cluster.group_ids})
        self.assertLessEqual(max(sizes), SEGMENTS_MAX * OPTIONS.segment_bytes, sizes)

    @asynccontextmanager
    async def one_server(self) -> AsyncIterator[ProcessCluster]:
        """Run a server with three groups of its own."""
        from twisted.internet import reactor

        groups = (BUSY, IDLE_SMALL, IDLE_LARGE)
        cluster = ProcessCluster(reactor, self.directory, random.Random(1), names=("Server0",), group_ids=groups)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.kill_all()


async def _write(session: ShardSession, ids: count[int], rows: int) -> None:
    """Write so many rows, some at a time."""
    wanted = iter(list(islice(ids, rows)))

    async def write() -> None:
        while some := tuple((id_, "x" * ROW_BYTES) for id_ in islice(wanted, ROWS_PER_WRITE)):
            await session.submit(Write(some), TIMEOUT_SECONDS)

    await gatherResults([Deferred.fromCoroutine(write()) for _ in range(8)])


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())
