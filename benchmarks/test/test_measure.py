"""Tests of benchmarks.measure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.measure import Failed, Measurement, longest_pause, percentile, summarise


class Percentiles(SynchronousTestCase):
    def test_nearest_rank(self) -> None:
        """A percentile is the smallest value that at least so many percent do not exceed."""
        ordered = [float(value) for value in range(1, 101)]

        found = [percentile(ordered, percent) for percent in (50, 95, 99, 99.5, 100)]

        self.assertEqual(found, [50.0, 95.0, 99.0, 100.0, 100.0])

    def test_nothing(self) -> None:
        """Of nothing it is zero."""
        self.assertEqual(percentile([], 99), 0.0)

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
    def test_is_one_of_the_values(self, values: list[float], percent: float) -> None:
        """It is a value that was measured, and not above the largest."""
        self.assertIn(percentile(sorted(values), percent), values)


class Pauses(SynchronousTestCase):
    def test_between_and_before(self) -> None:
        """The longest pause may lie between two successes or before the first one."""
        between = longest_pause([0.1, 0.2, 0.9, 1.0])
        before = longest_pause([0.8, 0.9, 1.0])

        self.assertAlmostEqual(between, 0.7)
        self.assertAlmostEqual(before, 0.8)


class Summaries(SynchronousTestCase):
    def test_successes_and_failures(self) -> None:
        """Rate and latency are those of the successes; failures are counted by kind."""
        measured = Measurement(
            latencies=[0.010, 0.0, 0.030, 0.020],
            finished=[0.5, 0.0, 2.0, 1.0],
            failures={1: Failed("503 no_quorum", "no")},
            seconds=2.0,
            cpu_seconds=0.0004,
        )

        summary = summarise(measured, lambda index: "sh1" if index < 2 else "sh2")

        self.assertEqual((summary.requests, summary.succeeded, summary.rate_per_second), (4, 3, 1.5))
        self.assertAlmostEqual(summary.p50_ms, 20.0)
        self.assertAlmostEqual(summary.max_ms, 30.0)
        self.assertEqual(summary.errors, {"503 no_quorum": 1})
        self.assertAlmostEqual(summary.pause_ms, 1000.0)
        self.assertEqual(summary.pause_ms_by_shard, {"sh1": 500.0, "sh2": 1000.0})
        self.assertAlmostEqual(summary.client_cpu_us_per_request, 100.0)

    def test_nothing_succeeded(self) -> None:
        """A run in which everything failed has figures of zero, and its errors."""
        measured = Measurement([0.0], [0.0], {0: Failed("deadline", "unknown")}, 1.0, 0.0)

        summary = summarise(measured, lambda index: "sh1")

        self.assertEqual((summary.rate_per_second, summary.p99_ms, summary.pause_ms), (0.0, 0.0, 0.0))
        self.assertEqual(summary.errors, {"deadline": 1})
