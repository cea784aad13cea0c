"""Tests of benchmarks.kill."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.kill import Ambush, NoSuchServerError, Victim, choose

LEADERS = {"sh1": "Server1", "sh2": "Server0", "sh3": "Server1"}
SERVERS = ["Server0", "Server1", "Server2"]


class Choices(SynchronousTestCase):
    def test_leader(self) -> None:
        """`leader` is the server that leads most shards."""
        self.assertEqual(choose("leader", LEADERS, SERVERS), Victim("Server1", ("sh1", "sh3")))

    def test_follower(self) -> None:
        """`follower` is one that leads fewest."""
        self.assertEqual(choose("follower", LEADERS, SERVERS), Victim("Server2", ()))

    def test_name(self) -> None:
        """A name is the server of that name, whatever it leads."""
        self.assertEqual(choose("Server0", LEADERS, SERVERS), Victim("Server0", ("sh2",)))

    def test_nobody(self) -> None:
        """Another name is refused with those that exist."""
        failure = self.assertRaises(NoSuchServerError, choose, "Server9", LEADERS, SERVERS)

        self.assertIn("Server0, Server1, Server2", str(failure))


class Ambushes(SynchronousTestCase):
    def setUp(self) -> None:
        """Lie in wait for Server1 in a run of ten requests."""
        self.killed: list[str] = []
        self.ambush = Ambush(Victim("Server1", ()), 10, self.killed.append)

    def test_once_at_half(self) -> None:
        """It strikes once, when half is over."""
        for over in (0, 4, 6, 7, 10):
            self.ambush.watch(over)

        self.assertEqual(self.killed, ["Server1"])
        self.assertTrue(self.ambush.struck)

    def test_too_late(self) -> None:
        """A run that is over before its half was seen is not struck, and it shows."""
        self.ambush.watch(3)
        self.ambush.watch(10)

        self.assertEqual((self.killed, self.ambush.struck), ([], False))
