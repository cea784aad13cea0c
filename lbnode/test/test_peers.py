"""What --peers may say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lbnode.peers import Peers, parse_addresses
from raftlog.link import Endpoint


class PeersTests(SynchronousTestCase):
    def test_names_and_addresses(self) -> None:
        """Hosts may be names or numbers of both kinds."""
        addresses = parse_addresses("lb1=10.0.0.1:5100, lb2=other.host:5101,lb3=[::1]:5102")

        self.assertEqual(addresses["lb2"], Endpoint("other.host", 5101))
        self.assertEqual(addresses["lb3"], Endpoint("::1", 5102))
        self.assertEqual(Peers("lb2", addresses).others, ["lb1", "lb3"])

    def test_what_is_wrong_is_named(self) -> None:
        """Every mistake is told with the value and with what would be right."""
        for text, told in (
            ("lb1", "'lb1' is not NAME=HOST:PORT"),
            ("a/b=h:1,c=h:2,d=h:3", "'a/b=h:1' is not NAME=HOST:PORT"),
            ("a=h:1,a=h:2,b=h:3", "a is named twice"),
            ("a=h:1,b=h:1,c=h:2", "two balancers have the same address"),
            ("a=h,b=h:1,c=h:2", "'h' is not HOST:PORT"),
            ("a=h:70000,b=h:1,c=h:2", "'h:70000' is not HOST:PORT"),
            ("a=h:1,b=h:2", "2 balancers: name 3"),
            ("", "0 balancers: name 3"),
        ):
            error = self.assertRaises(ValueError, parse_addresses, text)

            self.assertIn(told, str(error))
