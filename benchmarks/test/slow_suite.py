"""Tiny versions of all experiments from end to end, with real clusters and with the peers."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from unittest import SkipTest

from rich.console import Console
from twisted.trial.unittest import TestCase

from benchmarks.report import Bars
from benchmarks.suite.cli import hold, parse
from benchmarks.suite.document import OURSELVES, Document
from benchmarks.suite.missing import MissingProgramError
from benchmarks.suite.postgres import programs
from benchmarks.suite.results import section

SMALL = "--rows 200 --seconds 0.5"


class Experiments(TestCase):
    timeout = 120

    async def held(self, line: str) -> Document:
        """Do an experiment, which must find nothing wrong and leave nothing behind."""
        from twisted.internet import reactor

        directory = reachable_directory()
        self.addCleanup(shutil.rmtree, directory)
        typed = [*line.split(), f"--directory={directory}"]
        experiment, given = parse(typed)
        with Bars(Console(file=StringIO()), reactor.seconds) as bars:
            document = await hold(reactor, experiment, given, typed, bars)
        self.assertEqual(
            [sample.problems for point in document.points for sample in point.samples if sample.problems], []
        )
        self.assertTrue(document.good, document.points)
        self.assertEqual(list(directory.iterdir()), [])
        self.assertIn("| phase |", section(document, None))
        return document

    def check_used(self, document: Document, phase: str) -> None:
        """Check that our processes' memory was found, of balancer and servers."""
        memory = [one for point in document.points if point.subject == OURSELVES for one in point.samples[0].memory]
        self.assertTrue({"balancer", "servers"} <= {one.role for one in memory}, phase)
        self.assertTrue(all(one.rss_peak_mb > 0 for one in memory))

    async def test_concurrency_with_peers(self) -> None:
        """Single rows over connections, with every peer in the same run."""
        need("etcd")

        document = await self.held(f"concurrency --connections 1,8 --peer etcd --peer klein --peer web {SMALL}")

        self.assertEqual(set(document.subjects()), {OURSELVES, "etcd", "klein", "web"})
        self.assertEqual(len(document.points), 4 * 2 * 2)
        self.check_used(document, "writes")

    async def test_versus_etcd(self) -> None:
        """Ours and etcd in turn, with wrk; what is stored is what was acknowledged."""
        need("etcd")
        need("wrk")

        document = await self.held("versus-etcd --runs 1 --seconds 1 --connections 4 --rate-max 20000")

        ours = document.point(OURSELVES, "writes", 4)
        assert ours is not None
        self.assertIsNotNone(document.ratio(ours, "etcd", "rate_per_second"))

    async def test_layout(self) -> None:
        """A cluster has the replicas asked for."""
        document = await self.held(f"replicas --replicas 2 --connections 8 {SMALL}")

        self.assertEqual([(point.phase, point.x) for point in document.points], [("writes", 2), ("reads", 2)])

    async def test_layouts(self) -> None:
        """The layouts of the assignments are measured in the same runs."""
        document = await self.held(f"layouts --connections 8 {SMALL} --runs 1")

        self.assertEqual([point.x for point in document.points], ["A-1", "A-2", "A-3"] * 2)

    async def test_batches(self) -> None:
        """Writes of several rows are measured in rows."""
        document = await self.held(f"batch --sizes 1,50 --connections 4 {SMALL}")

        single, batched = (point.medians() for point in document.points)
        self.assertEqual(single["rows_per_second"], single["rate_per_second"])
        self.assertEqual(batched["rows_per_second"], batched["rate_per_second"] * 50)

    async def test_consistency(self) -> None:
        """Stale reads are measured beside linearizable ones."""
        document = await self.held(f"consistency --connections 8 {SMALL}")

        self.assertEqual([point.x for point in document.points], ["linearizable", "stale"] * 2)

    async def test_ycsb(self) -> None:
        """Reads, updates, inserts, scans and read-modify-writes all succeed."""
        document = await self.held("ycsb --workloads E,F --records 300 --connections 8 --rows 400 --seconds 2")

        self.assertEqual(
            {point.phase for point in document.points}, {"all", "scan", "insert", "read", "read-modify-write"}
        )

    async def test_latency(self) -> None:
        """The peak is found, and rates are held in an open loop."""
        line = "latency --shares 0.2 --rates 50 --duration 1 --seconds 0.5 --connections 32"

        document = await self.held(line)

        self.assertEqual([point.x for point in document.points], ["peak", "0.2 of peak", "50/s"])
        self.assertTrue(document.points[-1].samples[0].curves["spectrum_ms"])

    async def test_bulk(self) -> None:
        """Rows go in by batches and as lines, and come out again; COPY stores the same."""
        need_postgres()

        document = await self.held("bulk --rows 5000 --batch 500 --peer postgres")

        self.assertEqual(len(document.points), 6)

    async def test_storage(self) -> None:
        """One PostgreSQL answers pgbench."""
        need_postgres()

        document = await self.held("storage --connections 2 --seconds 1")

        self.assertEqual([point.phase for point in document.points], ["writes", "reads"])


def reachable_directory() -> Path:
    """Make a directory that PostgreSQL's account can pass, which those of trial are not for root."""
    directory = Path(mkdtemp(prefix="shardlb-suite-"))
    directory.chmod(0o711)
    return directory


def need(program: str) -> None:
    """Skip where a program is not installed."""
    if shutil.which(program) is None:
        raise SkipTest(f"{program} is not installed")


def need_postgres() -> None:
    """Skip where there is no PostgreSQL."""
    try:
        programs()
    except MissingProgramError as missing:
        raise SkipTest(str(missing)) from missing
