"""Tests of benchmarks.suite.compare, results, plots and reading."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.bulk import AT_ONCE
from benchmarks.suite.compare import chance, compare, judge, only_in_one
from benchmarks.suite.document import OURSELVES, Document, Point, Sample, save
from benchmarks.suite.plots import MissingMatplotlibError, plot
from benchmarks.suite.reading import main_compare, main_report
from benchmarks.suite.results import insert, section
from benchmarks.suite.subjects import POSTGRES
from benchmarks.test.command_lines import check_refusals
from benchmarks.test.documents import document, point
from benchmarks.usage import Memory

OLD = [100.0, 101.0, 99.0, 102.0, 98.0]
NEW = [120.0, 121.0, 119.0, 122.0, 118.0]


class Judgements(SynchronousTestCase):
    def test_chance(self) -> None:
        """The probability is that of all orders of so many runs which are at least as far apart."""
        old, new = [1.0, 2.0, 4.0, 6.0], [3.0, 5.0, 7.0, 8.0]
        wins = sum(a < b for a in old for b in new)
        ranks = sorted(old + new)
        orders = [sum(a < b for a in ranks if a not in chosen for b in chosen) for chosen in combinations(ranks, 4)]
        as_far = sum(count >= wins for count in orders) + sum(count <= 16 - wins for count in orders)

        self.assertAlmostEqual(chance(old, new), as_far / len(orders))
        self.assertAlmostEqual(chance(new, old), chance(old, new))

    def test_same(self) -> None:
        """Runs do not differ from themselves."""
        self.assertEqual(chance(OLD, OLD), 1.0)
        self.assertEqual(chance([5.0] * 5, [5.0] * 5), 1.0)

    def test_directions(self) -> None:
        """A higher rate is better, a higher latency worse."""
        self.assertEqual(judge("rate_per_second", OLD, NEW), "better")
        self.assertEqual(judge("rate_per_second", NEW, OLD), "worse")
        self.assertEqual(judge("p99_ms", OLD, NEW), "worse")

    def test_noise(self) -> None:
        """Runs that overlap are noise."""
        self.assertEqual(judge("rate_per_second", OLD, [value + 1 for value in OLD]), "within noise")

    def test_too_few(self) -> None:
        """Three runs each cannot show anything, however far apart they are."""
        self.assertEqual(judge("rate_per_second", [1.0] * 3, [9.0] * 3), "too few runs")


class Comparisons(SynchronousTestCase):
    def test_changes(self) -> None:
        """Every figure that both have is compared by its median, with its spread."""
        changes = compare(document(point(32, OLD)), document(point(32, NEW)))

        found = {change.figure: change for change in changes}
        self.assertEqual(set(found), {"rate_per_second", "p50_ms"})
        self.assertEqual((found["rate_per_second"].ratio, found["rate_per_second"].judgement), (1.2, "better"))
        self.assertAlmostEqual(found["rate_per_second"].old_spread, 0.04)
        self.assertEqual(found["p50_ms"].judgement, "better")

    def test_only_in_one(self) -> None:
        """Points that one of them lacks are named."""
        old, new = document(point(32, OLD), point(64, OLD)), document(point(32, NEW), point("C", NEW))

        self.assertEqual(
            list(only_in_one(old, new)),
            ["only in the old one: shardlb, writes, 64", "only in the new one: shardlb, writes, C"],
        )


class Reports(SynchronousTestCase):
    def test_section(self) -> None:
        """A section has the command, the conditions, the plot and a table."""
        text = section(document(point(32, OLD), point(32, NEW, subject="etcd")), "plots")

        self.assertIn("Command: `bin/bench concurrency`; 2026-01-01", text)
        self.assertIn("](plots/concurrency.svg)", text)
        self.assertIn("|  | phase | connections | per s | p50 ms | runs | of etcd |", text)
        self.assertIn("| shardlb | writes | 32 | 100 | 10.0 | 5: 98.0..102 | 0.83 |", text)

    def test_marks(self) -> None:
        """What stands between an experiment's marks is replaced, and nothing else."""
        once = insert("# Results\n\nMine.\n", [document(point(32, OLD))], None)
        text = once.replace("## Rate", "Also mine.\n\n## Rate") + "\nAfter.\n"

        again = insert(text, [document(point(32, NEW))], None)

        self.assertIn("## Rate over connections", again)
        for kept in ("Mine.", "Also mine.", "After."):
            self.assertIn(kept, again)
        self.assertIn("| 120 |", again)
        self.assertNotIn("| 100 |", again)
        self.assertEqual(insert(again, [document(point(32, NEW))], None), again)

    def test_cost_of_replicas(self) -> None:
        """What a further replica costs is the slope of the servers' time."""
        points = [
            Point(OURSELVES, "writes", copies, [Sample({"cpu_servers_us": 50.0 + 10 * copies})]) for copies in (1, 3, 5)
        ]

        text = section(document(*points, experiment="replicas"), None)

        self.assertIn("writes: 10.0 µs of the servers' time per row and further replica", text)

    def test_losses(self) -> None:
        """By how much a layout is slower is a matter of each run: here the machine was twice as fast in the second."""
        rates = {"A-1": (100.0, 200.0, 50.0), "A-2": (80.0, 160.0, 40.0), "A-3": (50.0, 120.0, 20.0)}
        points = [
            Point(OURSELVES, "writes", name, [Sample({"rate_per_second": rate}) for rate in found])
            for name, found in rates.items()
        ]

        text = section(document(*points, experiment="layouts"), None)

        self.assertIn("* writes, less than A-1: A-2 20 %, A-3 50 %", text)

    def test_memory(self) -> None:
        """The processes of the sample with the largest peak are listed, folded away."""
        small, large = (
            Sample({"p50_ms": 1.0}, memory=[Memory("Server0", "servers", 50.0, 60.0, peak, 30.0, 40.0)])
            for peak in (70.0, 90.0)
        )

        text = section(document(Point(OURSELVES, "writes", 1, [small, large])), None)

        self.assertIn("| Server0 | servers | 50.0 | 60.0 | 90.0 | 30.0 | 40.0 |", text)
        self.assertNotIn("70.0", text)

    def test_part_of_one_copy(self) -> None:
        """Every way of loading is compared with one COPY."""
        ours = Point(OURSELVES, "load", "by 10", [Sample({"rows_per_second": 50.0})])
        copy = Point(POSTGRES, "load", AT_ONCE, [Sample({"rows_per_second": 200.0})])

        self.assertIn("load by 10: 0.25 of one COPY", section(document(ours, copy, experiment="bulk"), None))


class Plots(SynchronousTestCase):
    def drawn(self, of: Document) -> str:
        """Return the SVG, which is the same every time."""
        first, again = plot(of), plot(of)
        self.assertEqual(first, again)
        return first.decode()

    def test_line(self) -> None:
        """Over numbers there is a line per subject and phase."""
        svg = self.drawn(document(point(1, OLD), point(64, NEW), point(1, OLD, subject="etcd")))

        for part in ("<svg", "shardlb, writes", "etcd, writes", ">64<", "connections", "requests per second"):
            self.assertIn(part, svg)

    def test_bars(self) -> None:
        """Over names there are bars."""
        svg = self.drawn(document(point("A", OLD), point("B", NEW)))

        self.assertIn(">A<", svg)
        self.assertIn(">B<", svg)

    def test_open_loop(self) -> None:
        """An open loop shows its percentiles and its worst second by second."""
        curves = {
            "spectrum_percent": [50.0, 99.0, 100.0],
            "spectrum_ms": [1.0, 5.0, 9.0],
            "worst_ms_by_second": [9.0, 3.0],
        }
        figures = {"rate_per_second": 10.0, "p99_ms": 5.0}

        svg = self.drawn(document(Point(OURSELVES, "open loop", "half", [Sample(figures, curves=curves)])))

        for part in ("percentile", "99.9", "worst latency of each second, ms", "half"):
            self.assertIn(part, svg)

    def test_without_matplotlib(self) -> None:
        """Where it is not installed the message says how to get it."""
        with patch.dict("sys.modules", {"matplotlib": None}):
            missing = self.assertRaises(MissingMatplotlibError, plot, document(point(1, OLD)))

        self.assertIn("--no-plots", str(missing))


class Commands(SynchronousTestCase):
    def setUp(self) -> None:
        """Write two results."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.old, self.new, self.page = (directory / name for name in ("old.json", "new.json", "page.md"))
        save(document(point(32, OLD)), self.old)
        save(document(point(32, NEW), revision="def"), self.new)
        self.page.write_text("# Results\n")

    def test_compare(self) -> None:
        """Two files are compared, and both revisions named."""
        with redirect_stdout(StringIO()) as out:
            main_compare([str(self.old), str(self.new)])

        for part in ("1.20", "better", "revision abc", "revision def"):
            self.assertIn(part, out.getvalue())

    def test_report(self) -> None:
        """A report writes the page and the plots beside it."""
        main_report([str(self.new), "--into", str(self.page)])

        self.assertIn("begin bench concurrency", self.page.read_text())
        self.assertTrue((self.page.parent / "plots" / "concurrency.svg").read_text().startswith("<?xml"))

    def test_refusals(self) -> None:
        """What cannot be compared or reported is said."""
        other = self.page.with_name("other.json")
        save(document(point(32, NEW), experiment="batch"), other)
        check_refusals(
            self, main_compare, {f"{self.old} {other}": "two of one kind", f"{self.page} {other}": "no result"}
        )
        cases = {f"{self.old} {self.new}": "more than one", f"{self.old} --into {self.page}.no": "no file"}
        check_refusals(self, main_report, cases)
