"""How a balancer tells where it is reached."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from lbnode.address import url_of


class Port:
    """A listening port at an address."""

    def __init__(self, host: Any) -> None:
        self._host = host

    def getHost(self) -> Any:
        """Return it."""
        return self._host


class UrlTests(SynchronousTestCase):
    def test_urls(self) -> None:
        """Every kind of port is told in words for curl."""
        cases: dict[str, Any] = {
            "http://127.0.0.1:5000": (IPv4Address("TCP", "127.0.0.1", 5000), "tcp:5000:interface=127.0.0.1"),
            "https://10.0.0.1:443": (IPv4Address("TCP", "10.0.0.1", 443), "ssl:443:privateKey=key.pem"),
            "http://127.0.0.1:80": (IPv4Address("TCP", "0.0.0.0", 80), "tcp:80"),
            "http://[::1]:80": (IPv6Address("TCP", "::", 80), "tcp6:80"),
            "http://[::1]:5000": (IPv6Address("TCP", "::1", 5000), "tcp6:5000:interface=\\:\\:1"),
            "--unix-socket /run/lb http://localhost": (UNIXAddress("/run/lb"), "unix:/run/lb"),
        }
        for url, (host, description) in cases.items():
            port: Any = Port(host)
            self.assertEqual(url_of(port, description), url)
