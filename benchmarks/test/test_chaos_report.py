"""Tests of benchmarks.chaos.report and view."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import msgspec
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chaos.judge import Linearizability
from benchmarks.chaos.report import Options, Report, show, to_json
from benchmarks.chaos.view import Board, View
from benchmarks.verify import Verdict
from benchmarks.workloads import Record
from raftlog.testing.linearizability import Kind, Operation

GOOD = Report(
    options=Options(seed=5, minutes=1, clients=8, url=None, data_dir=None, directory=None, keep=False),
    seconds=60,
    faults={"kill a leader": 3},
    acknowledged=1234,
    lost=[],
    outcomes={"ok": 2000, "504 outcome_unknown": 1},
    errors={},
    pause_seconds_by_shard={"sh1": 0.62},
    pause_seconds_by_fault={"kill a leader": 0.62},
    problems=[],
    linearizability=Linearizability(ids=10, operations=2000, violated=[], undecided=[], evidence={}),
    replicas=Verdict(problems=[], replicas=12, rows=900, unknown_stored=0, seconds=0.1),
)
DISORDER = replace(
    GOOD.linearizability,
    violated=[7],
    evidence={7: [Operation(Kind.READ, None, Record(7, "c1.1", 1), 1.0, 2.0, True, "c1")]},
)
BAD = {
    "lost": replace(GOOD, lost=[7]),
    "error": replace(GOOD, errors={"read: 503 no_quorum": 2}),
    "problem": replace(GOOD, problems=["Server0 did not come back within 60 s"]),
    "violated": replace(GOOD, linearizability=DISORDER),
    "undecided": replace(GOOD, linearizability=replace(GOOD.linearizability, undecided=[8])),
    "replicas": replace(GOOD, replicas=replace(GOOD.replicas, problems=["sh1 differs between a and b"])),
}
BOARD = Board(12.0, "kill a leader", 99, 0, {"ok": 200}, {}, {"sh1": (0.5, 1.5)})


def shown(report: Report, kept: str | None = None) -> str:
    """Return what is printed of a report."""
    console = Console(file=StringIO(), width=80)
    show(report, kept, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


class Reports(SynchronousTestCase):
    def test_good(self) -> None:
        """A good chaos says how much was acknowledged, that nothing was lost and that an order was found."""
        text = shown(GOOD)

        self.assertTrue(GOOD.good)
        for part in ("acknowledged 1,234, lost 0\n", "sh1 0.6 s", "linearizable: 2,000", "12 replicas identical"):
            self.assertIn(part, text)
        self.assertNotIn("WRONG", text)

    def test_bad(self) -> None:
        """Each thing that may be wrong, undecided included, makes it bad and is named, with the seed."""
        for what, report in BAD.items():
            text = shown(report, "/tmp/kept")

            self.assertFalse(report.good, what)
            self.assertIn("--seed 5", text)
            self.assertIn("/tmp/kept", text)
        self.assertIn("lost 1: 7", shown(BAD["lost"]))
        self.assertIn("WRONG: clients saw, without a cause: read: 503 no_quorum (2)", shown(BAD["error"]))
        self.assertIn("WRONG: 1 ids are not linearizable: 7", shown(BAD["violated"]))
        self.assertIn("WRONG: 1 ids could not be decided: 8", shown(BAD["undecided"]))
        self.assertIn("WRONG: sh1 differs between a and b", shown(BAD["replicas"]))

    def test_json(self) -> None:
        """The JSON has everything, with the history of an id that no order explains."""
        document = msgspec.json.decode(to_json(BAD["violated"], None))

        self.assertEqual((document["good"], document["options"]["seed"], document["kept"]), (False, 5, None))
        (seen,) = document["linearizability"]["evidence"]["7"]
        self.assertEqual((seen["kind"], seen["result"]["Stud_name"]), ("read", "c1.1"))


class Views(SynchronousTestCase):
    def test_lines(self) -> None:
        """Without a terminal what happens is a line with its time, and the counters come now and then."""
        console = Console(file=StringIO(), width=80)
        with View(console) as view:
            view.refresh(replace(BOARD, seconds=5.0))
            view.say("kill -9 Server0")
            view.refresh(BOARD)
            view.refresh(replace(BOARD, seconds=12.5))

        assert isinstance(console.file, StringIO)
        self.assertEqual(
            console.file.getvalue(),
            "   5.0  kill -9 Server0\n  12.0  acknowledged 99, lost 0, errors without a cause 0\n",
        )

    def test_terminal(self) -> None:
        """On a terminal there is a board with the counters, the fault and the pauses of each shard."""
        console = Console(file=StringIO(), width=80, force_terminal=True)
        with View(console) as view:
            view.refresh(BOARD)

        assert isinstance(console.file, StringIO)
        for part in ("acknowledged 99, lost 0", "fault: kill a leader", "ok 200", "sh1", "0.5 s", "1.5 s"):
            self.assertIn(part, console.file.getvalue())
