"""Tests of benchmarks.endpoints, benchmarks.comeback and benchmarks.tour, without a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cli import parse
from benchmarks.comeback import Comeback, NotBackError, watch_comeback
from benchmarks.containers import Containers
from benchmarks.door import Door, UnreachableError
from benchmarks.endpoints import Probe, Probed, judge, probes
from benchmarks.kill import NoSuchServerError, Victim
from benchmarks.test.serving import ServedCase
from benchmarks.tour import Tour, hold_tour
from benchmarks.verify import Verdict
from benchmarks.workloads import A_1, LayoutError

PROBE = Probe("GET", "/x", fields={"message": "done", "servers": None})


class Endpoints(SynchronousTestCase):
    def test_right_answers(self) -> None:
        """Fields that are not asked for do not matter, nor does the value of a field that may have any."""
        self.assertEqual(judge(PROBE, 200, b'{"message":"done","servers":[],"more":1}'), "")
        self.assertEqual(judge(Probe("GET", "/metrics"), 200, b"# text"), "")

    def test_wrong_answers(self) -> None:
        """Another status, a field that is missing or different, and what is no object are found."""
        for status, body, problem in (
            (500, b"oops", "500 instead of 200: oops"),
            (200, b'{"message":"done"}', "has not servers"),
            (200, b'{"message":"not done","servers":1}', 'has not message = "done"'),
            (200, b"<p>", "no JSON"),
        ):
            self.assertIn(problem, judge(PROBE, status, body))

    def test_every_endpoint_is_asked(self) -> None:
        """No endpoint of the contract is left out."""
        asked = {(probe.method, probe.path) for probe in probes()}

        for method, paths in (
            ("POST", ("/init", "/add", "/read", "/write")),
            ("DELETE", ("/rm", "/del")),
            ("PUT", ("/update",)),
            ("GET", ("/status", "/rep", "/primary_elect", "/read", "/read/Server0", "/healthz", "/readyz", "/metrics")),
        ):
            self.assertLessEqual({(method, path) for path in paths}, asked)


def status(*, state: str, pid: int, primary: str | None, lag: int = 0) -> dict[str, Any]:
    """Return what a balancer says of one shard on the servers A and B, of which A was killed."""
    replicas = [{"server": name, "state": "serving", "lag": lag} for name in "AB"]
    return {
        "server_states": {"A": {"state": state, "pid": pid}},
        "shards": [{"primary": primary, "replicas": replicas}],
    }


class ScriptedDoor:
    """Says one status after the other, the last one again and again."""

    def __init__(self, statuses: Sequence[dict[str, Any] | None]) -> None:
        self._statuses = list(statuses)

    async def json(self, method: str, path: str) -> Any:
        """Return the next status; there is no answer where it is None."""
        said = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        if said is None:
            raise UnreachableError("nobody there")
        return said


class Comebacks(SynchronousTestCase):
    def watch(self, *statuses: dict[str, Any] | None) -> tuple[Deferred[Comeback], list[str]]:
        """Begin to watch the comeback of A, and let a minute pass."""
        clock, killed = Clock(), list[str]()
        door = cast(Door, ScriptedDoor([status(state="up", pid=1, primary="A"), *statuses]))

        async def kill(server: str) -> None:
            killed.append(server)

        watching = Deferred.fromCoroutine(watch_comeback(clock, door, Victim("A", ("sh1",)), kill, 30.0))
        clock.pump([0.02] * 3000)
        return watching, killed

    def test_times(self) -> None:
        """Each of the three is timed when it is first seen, from the kill on."""
        watching, killed = self.watch(
            status(state="up", pid=1, primary="A"),
            status(state="down", pid=1, primary=None),
            None,
            status(state="down", pid=1, primary="B"),
            status(state="up", pid=2, primary="B", lag=7),
            status(state="up", pid=2, primary="B"),
        )

        back = self.successResultOf(watching)
        self.assertEqual(killed, ["A"])
        self.assertEqual((back.server, back.led), ("A", ("sh1",)))
        times = [back.leaders_seconds, back.running_seconds, back.caught_up_seconds]
        self.assertEqual([round(seconds, 2) for seconds in times], [0.08, 0.10, 0.12])

    def test_never_back(self) -> None:
        """A server that stays away ends it at the deadline."""
        watching, _ = self.watch(status(state="failed", pid=1, primary="B"))

        self.assertIn("A is not back", str(self.failureResultOf(watching, NotBackError).value))


class Tours(SynchronousTestCase):
    def tour(self, problem: str = "", *problems: str) -> Tour:
        """Return a tour with a problem of an endpoint, and problems of replicas."""
        verdict = Verdict(list(problems), 12, 3000, 0, 0.1)
        return Tour([Probed("GET /status", problem)], Comeback("A", ("sh1",), 0.4, 2.0, 3.0), verdict)

    def test_good(self) -> None:
        """It says what was right, how long everything took, and that nothing is missing."""
        good = self.tour()

        text = "\n".join(good.lines())
        self.assertTrue(good.good)
        for said in ("right GET /status", "0.40 s", "2.00 s", "3.00 s", "12 replicas identical, 3,000 rows"):
            self.assertIn(said, text)
        self.assertEqual(msgspec.json.decode(good.to_json())["good"], True)

    def test_bad(self) -> None:
        """One wrong answer or replica is enough, and it is named."""
        for bad, said in (
            (self.tour("answered 500"), "WRONG GET /status answered 500"),
            (self.tour("", "sh1"), "WRONG sh1"),
        ):
            self.assertFalse(bad.good)
            self.assertIn(said, "\n".join(bad.lines()))


class RunningBalancers(ServedCase):
    async def test_only_an_empty_table_of_its_own_kind(self) -> None:
        """At a running balancer it begins nothing unless the table is A-1, with its servers and without a row."""
        options, _ = parse(["A-4", "--url", f"http://127.0.0.1:{self.port_number}"])
        self.balancer.rows[5] = {"Stud_id": 5}

        with self.assertRaisesRegex(LayoutError, "not empty"):
            await hold_tour(self.reactor, options)
        self.balancer.layout = replace(A_1, servers={f"Other{name}": held for name, held in A_1.servers.items()})
        with self.assertRaisesRegex(LayoutError, "not called as"):
            await hold_tour(self.reactor, options)

    async def test_only_containers_are_killed(self) -> None:
        """What the engine does not know, or cannot be asked for, is not killed."""
        self.patch(os, "environ", {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"})
        self.balancer.states = {"Server0": {"home": "Server0"}}

        with self.assertRaises(NoSuchServerError):
            await Containers(self.reactor, self.door).kill("Server0")
