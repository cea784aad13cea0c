"""Tests of benchmarks.verify."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.door import UnreachableError
from benchmarks.measure import Failed
from benchmarks.verify import Expected, Verdict, verify
from benchmarks.workloads import Record

ADA, BOB, CYD = Record(1, "Ada", 10), Record(2, "Bob", 20), Record(3, "Cyd", 30)
SERVERS = {"Server0": ["sh1"], "Server1": ["sh1"]}


def held(*records: Record, shard: str = "sh1") -> dict[str, list[Any]]:
    """Return what a server holds, as JSON gives it."""
    return {shard: msgspec.json.decode(msgspec.json.encode(records))}


def expected(stored: Iterable[Record] = (), unknown: Iterable[Record] = (), absent: Iterable[int] = ()) -> Expected:
    """Return what a run alone on its cluster expects."""
    by_id = [{record.Stud_id: record for record in records} for records in (stored, unknown)]
    return Expected(by_id[0], by_id[1], set(absent), alone=True)


class VerifyCase(SynchronousTestCase):
    def verdict(self, servers: dict[str, dict[str, list[Any]]], wanted: Expected) -> Verdict:
        """Verify what does not change any more."""

        async def read(server: str) -> dict[str, list[Any]]:
            return servers[server]

        clock = Clock()
        done = ensureDeferred(verify(clock, read, SERVERS, wanted, deadline_seconds=1))
        clock.pump([0.25] * 5)
        return self.successResultOf(done)


class Verdicts(VerifyCase):
    def test_good(self) -> None:
        """Identical replicas with exactly the acknowledged rows are good."""
        verdict = self.verdict({"Server0": held(ADA, BOB), "Server1": held(BOB, ADA)}, expected([ADA, BOB]))

        self.assertEqual(verdict, Verdict([], replicas=2, rows=2, unknown_stored=0, seconds=0.0))
        self.assertTrue(verdict.good)

    def test_replicas_differ(self) -> None:
        """A row that one replica lacks or has otherwise is named with its shard and servers."""
        changed = Record(2, "Bob", 21)

        verdict = self.verdict({"Server0": held(ADA, BOB), "Server1": held(changed)}, expected([ADA, BOB]))

        self.assertEqual(verdict.problems, ["sh1 differs between Server0 and Server1: 2 rows, ids 1, 2"])

    def test_acknowledged_and_lost(self) -> None:
        """An acknowledged row that no replica holds is a loss."""
        verdict = self.verdict({"Server0": held(ADA), "Server1": held(ADA)}, expected([ADA, BOB]))

        self.assertEqual(verdict.problems, ["acknowledged but missing: 1 rows, ids 2"])

    def test_unknown_either_way(self) -> None:
        """Rows of unknown outcome may be there or not, but not with other values."""
        there = self.verdict({"Server0": held(ADA), "Server1": held(ADA)}, expected(unknown=[ADA, BOB]))
        other = self.verdict({"Server0": held(CYD), "Server1": held(CYD)}, expected(unknown=[Record(3, "", 0)]))

        self.assertEqual((there.problems, there.unknown_stored), ([], 1))
        self.assertEqual(other.problems, ["of unknown outcome and different: 1 rows, ids 3"])

    def test_refused_or_foreign(self) -> None:
        """A refused row must be absent, and so must one that nobody wrote."""
        both = held(ADA, BOB)

        verdict = self.verdict({"Server0": both, "Server1": both}, expected(absent=[1]))

        self.assertEqual(
            verdict.problems, ["refused but there: 1 rows, ids 1", "there but never written: 1 rows, ids 2"]
        )

    def test_others_write_too(self) -> None:
        """At a cluster that others use, rows that are not ours are none of our business."""
        both = held(ADA, BOB)

        verdict = self.verdict({"Server0": both, "Server1": both}, Expected({1: ADA}, {}, (), alone=False))

        self.assertEqual(verdict.problems, [])

    def test_wrong_shards(self) -> None:
        """A server must hold the shards it is said to hold, and no others."""
        verdict = self.verdict({"Server0": held(ADA), "Server1": held(ADA, shard="sh2")}, expected([ADA]))

        self.assertEqual(verdict.problems, ["Server1 does not hold sh1", "Server1 holds sh2"])

    def test_id_twice(self) -> None:
        """A replica that shows an id twice is wrong."""
        verdict = self.verdict({"Server0": held(ADA, ADA), "Server1": held(ADA)}, expected([ADA]))

        self.assertEqual(verdict.problems, ["sh1 on Server0 holds an id twice"])

    def test_many_ids_are_cut_short(self) -> None:
        """A long list of ids is shown by its beginning and its length."""
        rows = [Record(number, "", 0) for number in range(9)]

        verdict = self.verdict({"Server0": held(), "Server1": held()}, expected(rows))

        self.assertEqual(verdict.problems, ["acknowledged but missing: 9 rows, ids 0, 1, 2, 3, 4, …"])


class Waiting(SynchronousTestCase):
    def test_until_a_follower_catches_up(self) -> None:
        """A replica that lags, or a server that is still starting, is read again."""
        clock = Clock()
        shown = [held(), held(ADA)]

        async def read(server: str) -> dict[str, list[Any]]:
            if server == "Server0":
                return held(ADA)
            if clock.seconds() < 0.5:
                raise UnreachableError("starting")
            return shown.pop(0)

        done = ensureDeferred(verify(clock, read, SERVERS, expected([ADA]), deadline_seconds=10))
        clock.pump([0.25] * 4)

        verdict = self.successResultOf(done)
        self.assertEqual((verdict.problems, verdict.seconds), ([], 0.75))

    def test_not_forever(self) -> None:
        """What still is wrong when the time is up is told."""
        clock = Clock()

        async def read(server: str) -> dict[str, list[Any]]:
            raise UnreachableError("no answer")

        done = ensureDeferred(verify(clock, read, {"Server0": ["sh1"]}, expected(), deadline_seconds=1))
        clock.pump([0.25] * 5)

        self.assertEqual(self.successResultOf(done).problems, ["Server0 cannot be read: no answer"])


class Expectations(SynchronousTestCase):
    def test_after_writes(self) -> None:
        """What succeeded is stored, what failed for certain absent, the rest unknown."""
        failures = {1: Failed("503", "no"), 2: Failed("deadline", "unknown")}

        found = Expected.after([ADA, BOB, CYD], failures, alone=False)

        self.assertEqual(found, Expected({1: ADA}, {3: CYD}, {2}, alone=False))
