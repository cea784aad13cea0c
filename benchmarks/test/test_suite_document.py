"""Tests of benchmarks.suite.document, columns and show."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.columns import label, number
from benchmarks.suite.document import OURSELVES, DocumentError, Point, Points, Sample, load, save
from benchmarks.suite.show import show
from benchmarks.test.documents import document, point


class Documents(SynchronousTestCase):
    def test_medians(self) -> None:
        """A point's figures are medians over its runs, of those figures that every run has."""
        samples = [Sample({"p50_ms": value, "once": 1.0} if value == 1 else {"p50_ms": value}) for value in (1, 9, 2)]

        found = Point(OURSELVES, "writes", 1, samples).medians()

        self.assertEqual(found, {"p50_ms": 2})

    def test_ratio_within_runs(self) -> None:
        """A ratio is the median of the runs' ratios, not the ratio of medians."""
        ours, theirs = point(32, [100, 10, 100]), point(32, [100, 100, 10], subject="etcd")
        found = document(ours, theirs)

        self.assertEqual(found.ratio(ours, "etcd", "rate_per_second"), 1.0)
        self.assertIsNone(found.ratio(point(64, [1]), "etcd", "rate_per_second"))
        self.assertIsNone(found.ratio(ours, "klein", "rate_per_second"))

    def test_file(self) -> None:
        """What was saved is loaded again as it was; a file that is something else is refused by name."""
        path = Path(self.mktemp())
        written = document(point("A", [1.5]))

        save(written, path)
        read = load(path)
        path.write_text('{"experiment":7}')
        refused = self.assertRaises(DocumentError, load, path)
        missing = self.assertRaises(DocumentError, load, path / "no")

        self.assertEqual(read, written)
        self.assertIn(str(path), str(refused))
        self.assertIn("cannot read", str(missing))

    def test_gathering(self) -> None:
        """Samples of one subject, phase and setting become one point."""
        points = Points()

        for rate in (1.0, 2.0):
            points.add(OURSELVES, "writes", 1, Sample({"rate_per_second": rate}))
            points.add("etcd", "writes", 1, Sample({"rate_per_second": rate * 10}))

        self.assertEqual([one.values("rate_per_second") for one in points.all()], [[1.0, 2.0], [10.0, 20.0]])

    def test_good(self) -> None:
        """Errors of ours and problems of anybody spoil a document, errors of a peer do not."""
        ours = Point(OURSELVES, "writes", 1, [Sample({}, errors={"503": 1})])
        peer = Point("etcd", "writes", 1, [Sample({}, errors={"503": 1})])
        wrong = Point("etcd", "writes", 1, [Sample({}, problems=["lost"])])

        self.assertEqual([document(one).good for one in (ours, peer, wrong)], [False, True, False])


class Tables(SynchronousTestCase):
    def shown(self, *points: Point) -> str:
        """Return what is printed."""
        out = StringIO()
        show(document(*points), Console(file=out, width=150))
        return out.getvalue()

    def test_figures_and_ratio(self) -> None:
        """The table has medians, their range over the runs, and the ratio to a peer."""
        text = self.shown(point(32, [100, 300, 200]), point(32, [50, 150, 100], subject="etcd"))

        for part in ("200", "3: 100..300", "of etcd", "2.00", "connections", "a processor"):
            self.assertIn(part, text)

    def test_processes(self) -> None:
        """Processor time and memory stand in the order balancer, servers, client."""
        figures = {
            "cpu_servers_us": 200.0,
            "cpu_client_us": 30.0,
            "cpu_balancer_us": 100.0,
            "rss_peak_servers_mb": 61.0,
        }

        text = self.shown(Point(OURSELVES, "writes", 1, [Sample(figures)]))

        self.assertIn("100 + 200 + 30", text)
        self.assertIn("61", text)

    def test_what_went_wrong(self) -> None:
        """Failed requests and what verification found are said."""
        text = self.shown(Point(OURSELVES, "writes", 1, [Sample({}, {"503 busy": 2}, ["sh1 differs"])]))

        self.assertIn("2 of 503 busy", text)
        self.assertIn("run 1: WRONG: sh1 differs", text)

    def test_numbers(self) -> None:
        """Figures have as many digits as mean something, settings as people write them."""
        self.assertEqual([number(value) for value in (1234.5, 12.34, 1.234)], ["1,234", "12.3", "1.23"])
        self.assertEqual([label(x) for x in (1000.0, 0.5, "A")], ["1,000", "0.5", "A"])
