"""Tests of benchmarks.usage, over a /proc of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.usage import Meter, Usage, Watched, arguments, descendants

TICKS = os.sysconf("SC_CLK_TCK")


class Proc(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an empty /proc."""
        self.proc = Path(self.mktemp())
        self.proc.mkdir()

    def process(self, pid: int, *, parent: int = 1, ticks: int = 0, rss: int = 0, peak: int = 0, pss: int = 0) -> None:
        """Describe a process; sizes in kB."""
        directory = self.proc / str(pid)
        directory.mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", "0"]
        (directory / "stat").write_text(f"{pid} (a) name) {' '.join(fields)}\n")
        (directory / "status").write_text(f"Name:\ta\nVmHWM:\t{peak} kB\nVmRSS:\t{rss} kB\nThreads:\t3\n")
        (directory / "smaps_rollup").write_text(f"0-1 ---p 0 0 0 [rollup]\nRss: {rss} kB\nPss: {pss} kB\n")

    def test_what_was_used(self) -> None:
        """Processor time is the difference by role, memory that of each process before, after and at its peak."""
        self.process(5, ticks=100, rss=1024, peak=9999, pss=512)
        self.process(6, ticks=10, rss=2048, pss=1024)
        watched = [Watched("Server0", "servers", 5), Watched("Server1", "servers", 6)]

        meter = Meter(watched, self.proc)
        self.process(5, ticks=100 + 2 * TICKS, rss=2048, peak=4096, pss=1024)
        self.process(6, ticks=10 + TICKS, rss=1024, peak=2048, pss=1024)
        usage = meter.stop()

        self.assertEqual(usage.cpu_seconds, {"servers": 3.0})
        first = usage.memory[0]
        self.assertEqual((first.rss_before_mb, first.rss_after_mb, first.rss_peak_mb), (1.0, 2.0, 4.0))
        self.assertEqual((first.pss_before_mb, first.pss_after_mb), (0.5, 1.0))
        figures = usage.figures(1_000_000)
        self.assertEqual(figures["cpu_servers_us"], 3.0)
        self.assertEqual((figures["rss_peak_servers_mb"], figures["rss_growth_servers_mb"]), (4.0, 3.0))
        self.assertEqual((self.proc / "5" / "clear_refs").read_text(), "5")

    def test_gone(self) -> None:
        """A process that is not there, or ends meanwhile, is left out."""
        self.process(5)
        meter = Meter([Watched("a", "servers", 5), Watched("b", "servers", 7)], self.proc)

        for path in (self.proc / "5").iterdir():
            path.unlink()

        self.assertEqual(meter.stop(), Usage({}, []))

    def test_no_operations(self) -> None:
        """Where nothing was done there is no time per operation."""
        self.assertEqual(Usage({"servers": 1.0}, []).figures(0), {})

    def test_descendants(self) -> None:
        """Children and their children are found, strangers are not."""
        for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1), (14, 10)):
            self.process(pid, parent=parent)

        self.assertEqual(sorted(descendants(10, self.proc)), [10, 11, 12, 14])

    def test_arguments(self) -> None:
        """A process is known by what it was started with, empty words included; one that is gone by nothing."""
        self.process(10)
        (self.proc / "10" / "cmdline").write_bytes(b"twistd\0\0dbnode\0--data-dir=/a b\0")

        self.assertEqual(arguments(10, self.proc), ["twistd", "", "dbnode", "--data-dir=/a b"])
        self.assertEqual(arguments(11, self.proc), [])

    def test_this_process(self) -> None:
        """The real /proc can be read."""
        meter = Meter([Watched("me", "client", os.getpid())])

        usage = meter.stop()

        self.assertGreater(usage.memory[0].rss_peak_mb, 0)
        self.assertGreater(usage.memory[0].pss_after_mb, 0)
