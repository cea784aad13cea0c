"""Tests of benchmarks.report."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
from rich.console import Console
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.machine import Machine
from benchmarks.measure import Summary
from benchmarks.report import Bars, good, ratios, show, to_json
from benchmarks.run import Killed, Options, Outcome, Pair
from benchmarks.session import RunResult, Session
from benchmarks.suite.document import load
from benchmarks.usage import Memory, Usage
from benchmarks.verify import Verdict

MACHINE = Machine("Z80", 1, 64, "CP/M 2.2", "3.11.0", (0.5, 0.0, 0.0), "ext4", 0.25, "abc")
OPTIONS = Options("A-1", 10, 16, 100, 30.0, 1, 1, True, None, None, False, None, 60.0)
VERDICT = Verdict([], replicas=12, rows=10, unknown_stored=0, seconds=0.5)


def summary(rate: float) -> Summary:
    """Return figures with this rate."""
    return Summary(10, 10, 10 / rate, rate, 1.0, 2.0, 3.0, 4.0, 5.0, {"sh1": 6.0, "sh2": 7.0}, {}, 20.0)


def pair(writes: float, reads: float) -> Pair:
    """Return a pair of figures with these rates."""
    return Pair(summary(writes), summary(reads))


def session(*runs: RunResult) -> Session:
    """Return a session of runs."""
    return Session("2026-01-01T00:00:00+00:00", OPTIONS, MACHINE, pair(50_000, 60_000), list(runs), None)


def shown(of: Session) -> str:
    """Return what is printed about a session."""
    console = Console(file=StringIO(), width=80)
    show(of, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


class Reports(SynchronousTestCase):
    def test_good_run(self) -> None:
        """The table has the medians, the notes the ratio, the verdict and the machine."""
        found = session(RunResult(Outcome(pair(2_000, 3_000), VERDICT, None), pair(4_000, 4_000)))

        text = shown(found)

        for part in ("2,000", "bare Klein writes", "constant, reads", "writes 0.50, reads 0.75"):
            self.assertIn(part, text)
        self.assertIn("12 replicas identical after 0.5 s, 10 rows, exactly what was acknowledged", text)
        self.assertIn("Z80, 1 cores, CP/M 2.2, Python 3.11.0, load 0.50, ext4, fdatasync 0.25 ms, revision abc", text)
        self.assertTrue(good(found))

    def test_ratio_is_the_median_of_ratios(self) -> None:
        """Each run is compared with the ceiling beside it, and the median of that is shown."""
        rates = ((100, 1000), (300, 1000), (400, 500))
        runs = [RunResult(Outcome(pair(ours, ours), VERDICT, None), pair(top, top)) for ours, top in rates]

        self.assertEqual(ratios(session(*runs)), {"writes": 0.3, "reads": 0.3})

    def test_without_ceiling(self) -> None:
        """Without a ceiling there is no ratio."""
        found = session(RunResult(Outcome(pair(1, 1), VERDICT, None), None))

        self.assertIsNone(ratios(found))
        self.assertNotIn("bare Klein", shown(found))

    def test_problems(self) -> None:
        """Errors and wrong replicas are shown, and the session is not good."""
        writes = replace(summary(100), succeeded=9, errors={"503 no_quorum": 1})
        failing = session(RunResult(Outcome(Pair(writes, summary(100)), VERDICT, None), None))
        wrong = session(RunResult(Outcome(pair(1, 1), replace(VERDICT, problems=["sh1 differs"]), None), None))

        self.assertIn("run 1, writes: 1 of 503 no_quorum", shown(failing))
        self.assertIn("run 1: WRONG: sh1 differs", shown(wrong))
        self.assertEqual((good(failing), good(wrong)), (False, False))

    def test_murder(self) -> None:
        """A kill shows whom, the pause over all and per shard, and how the server was started again."""
        killed = Killed("Server4", ("sh2",), True, "twistd dbnode --data-dir=D")
        found = session(RunResult(Outcome(pair(1, 1), VERDICT, killed), None))

        text = shown(found)

        self.assertIn("killed Server4, leader of sh2; longest pause 5 ms (sh1 6 ms, sh2 7 ms)", text)
        self.assertIn("started again by: twistd dbnode --data-dir=D", text)

    def test_missed_murder(self) -> None:
        """A kill that came too late is said, and the session shows nothing of what it was for."""
        killed = Killed("Server4", (), False, "twistd")
        found = session(RunResult(Outcome(pair(1, 1), VERDICT, killed), None))

        self.assertIn("over before Server4 could be killed", shown(found))
        self.assertFalse(good(found))

    def test_json(self) -> None:
        """JSON has the options, every run, medians and ratios."""
        found = session(RunResult(Outcome(pair(100, 200), VERDICT, None), pair(400, 400)))

        document = msgspec.json.decode(to_json(found, "bin/bench A-1"))

        self.assertEqual(document["options"]["rows"], 10)
        self.assertEqual(document["runs"][0]["ours"]["figures"]["reads"]["rate_per_second"], 200)
        self.assertEqual(document["medians"]["writes"]["rate_per_second"], 100)
        self.assertEqual(document["ratios"], {"writes": 0.25, "reads": 0.5})
        self.assertTrue(document["good"])

    def test_document(self) -> None:
        """JSON is a document of the suite as well, with what processes used and with the peer."""
        used = Usage({"servers": 0.001}, [Memory("Server0", "servers", 50.0, 60.0, 70.0, 30.0, 40.0)])
        ours = Outcome(pair(100, 200), replace(VERDICT, problems=["sh1 differs"]), None, {"writes": used})
        path = Path(self.mktemp())

        path.write_bytes(to_json(session(RunResult(ours, pair(400, 400))), "bin/bench A-1 --ceiling"))
        found = load(path)

        writes = found.point("shardlb", "writes", "A-1")
        assert writes is not None
        self.assertEqual((found.experiment, found.command, found.good), ("A-1", "bin/bench A-1 --ceiling", False))
        self.assertEqual(writes.samples[0].figures["cpu_servers_us"], 100.0)
        self.assertEqual(writes.samples[0].memory, used.memory)
        self.assertEqual(found.ratio(writes, "klein", "rate_per_second"), 0.25)

    def test_usage(self) -> None:
        """Processor time and memory are shown by role."""
        used = Usage({"servers": 0.001}, [Memory("Server0", "servers", 50.0, 60.0, 70.0, 30.0, 40.0)])
        found = session(RunResult(Outcome(pair(1, 1), VERDICT, None, {"writes": used}), None))

        self.assertIn("servers 100 µs, 70 MB", shown(found))


class Progress(SynchronousTestCase):
    def draw(self, *, terminal: bool) -> str:
        """Return what a bar writes while a load goes from 0 to its end."""
        clock = Clock()
        console = Console(file=StringIO(), force_terminal=terminal, width=80)
        with Bars(console, clock.seconds) as bars:
            watch = bars.display("run 1, writes", 1000)
            for over in (10, 500, 1000):
                clock.advance(1)
                watch(over)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    def test_terminal(self) -> None:
        """On a terminal the bar shows what is done of what."""
        self.assertIn("500/1000", self.draw(terminal=True))

    def test_no_terminal(self) -> None:
        """Anywhere else nothing is written."""
        self.assertEqual(self.draw(terminal=False), "")
