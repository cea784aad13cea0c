"""Network namespaces of our own: what is lost between which places. Needs root, else it is skipped."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from raftlog.testing.namespaces import Namespaces, NamespacesUnavailable

#: Sends a datagram from one address to another one's port 9, where nobody listens: what comes back is a refusal.
_KNOCK = """
import socket, sys
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.settimeout(0.2)
door.bind((sys.argv[1], 0))
door.connect((sys.argv[2], 9))
try:
    door.send(b"?")
    door.recv(1)
except ConnectionRefusedError:
    print("reached")
except TimeoutError:
    print("silence")
"""


class NamespacesTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a network of two hosts and a client."""
        self.network = Namespaces()
        try:
            self.network.open()
        except NamespacesUnavailable as reason:
            raise SkipTest(str(reason)) from reason
        self.addCleanup(self.network.close)
        self.network.add_host("A")
        self.network.add_host("B")
        self.network.add_client("client")

    def knock(self, source: str, destination: str) -> str:
        """Return whether a datagram gets from one place to another and its answer back."""
        command = [] if source == "client" else self.network.command(source)
        addresses = [self.network.address(name) for name in (source, destination)]
        asked = [*command, sys.executable, "-S", "-c", _KNOCK, *addresses]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    def test_each_direction_is_lost_by_itself(self) -> None:
        """What goes from A to B is lost silently, with the answers to B, until it heals; all else passes."""
        before = self.knock("A", "B")
        self.network.lose({("A", "B"): 1.0})
        broken = [self.knock(*pair) for pair in (("A", "B"), ("B", "A"), ("client", "A"), ("client", "B"))]
        self.network.lose({("client", "A"): 0.999})  # as a share, not as a certainty
        moved = [self.knock(*pair) for pair in (("A", "B"), ("client", "A"), ("client", "B"))]
        self.network.lose({})

        self.assertEqual(before, "reached")
        self.assertEqual(broken, ["silence", "silence", "reached", "reached"])
        self.assertEqual(moved, ["reached", "silence", "reached"])
        self.assertEqual(self.knock("client", "A"), "reached")

    def test_nothing_is_left(self) -> None:
        """After `close` there is no namespace of ours; to close again is nothing."""
        namespace = self.network.command("A")[-1].rpartition("/")[-1]
        before = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout

        self.network.close()
        self.network.close()

        listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
        self.assertIn(namespace, before.split())
        self.assertNotIn(namespace, listed.split())
