"""What an operator sees of /status in a terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import msgspec
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from lbnode.overview import status
from lbnode.state import BalancerState, ClusterState, ServerState
from lbnode.status_tables import status_tables
from lbnode.test.test_state import FOLLOWER, LEADER, described


def shown(answer: dict[str, Any]) -> str:
    """Return the tables as text."""
    text = StringIO()
    console = Console(file=text, width=80)
    for table in status_tables(answer):
        console.print(table)
    return text.getvalue()


class StatusTablesTests(SynchronousTestCase):
    def test_servers_and_replicas(self) -> None:
        """Each server and replica has a line; what is unknown is blank."""
        lines = shown(status(described(LEADER, FOLLOWER))).splitlines()

        self.assertTrue(any("3 servers" in line for line in lines))
        self.assertEqual([line.split()[0] for line in lines if " up " in line], ["A"])
        leader = next(line for line in lines if "leader" in line)
        self.assertEqual(leader.split(), ["sh1", "0-9", "B", "1", "serving", "leader", "5s", "3", "2000", "0", "7"])
        self.assertEqual(sum(" down " in line for line in lines), 2)

    def test_what_is_being_done(self) -> None:
        """What the controller does about a shard, or waits for, stands below the replicas."""
        state = described(LEADER, FOLLOWER)
        busy = msgspec.structs.replace(state.shards[0], doing="add replica 9")

        text = shown(status(msgspec.structs.replace(state, shards=(busy, *state.shards[1:]))))

        self.assertIn("sh1: add replica 9", text)

    def test_without_a_table(self) -> None:
        """Before /init there is nothing to show, and what is going on is said."""
        text = shown(status(ClusterState("c1", 1, operation="init")))

        self.assertIn("0 servers, /init in progress", text)
        self.assertIn("0 shards", text)

    def test_balancers(self) -> None:
        """Several balancers have a line each, and who is the controller stands above them."""
        balancers = (BalancerState("lb1", "controller", "leader", 3, 0, "http://a:1"), BalancerState("lb2", "away"))

        text = shown(status(ClusterState("c1", 1, controller="lb1", balancers=balancers)))

        self.assertIn("lb1 is the controller", text)
        lines = [line.split() for line in text.splitlines()]
        self.assertIn(["lb1", "controller", "leader", "3", "0", "http://a:1"], lines)
        self.assertIn(["lb2", "away"], lines)

    def test_durations(self) -> None:
        """Times are told in their largest unit."""
        for seconds, text in ((4.2, "4s"), (200.0, "3m"), (50_000.0, "13h"), (500_000.0, "5d")):
            state = ClusterState("c1", 1, servers=(ServerState("A", "up", seconds),))
            self.assertIn(f" {text} ", shown(status(state)))
