"""Where a server listens."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from dbnode.listening import EPHEMERAL, address, descriptions, listen
from dbnode.wire import Endpoint


class Port:
    """A port with an address."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def getHost(self) -> Port:
        """Return the address."""
        return self


class ListeningTests(SynchronousTestCase):
    def test_order_of_addresses(self) -> None:
        """What was told is the only one; else the address of the last time comes before a free port."""
        self.assertEqual(descriptions("tcp:1", Endpoint("127.0.0.1", 2)), ["tcp:1"])
        self.assertEqual(descriptions(None, None), [EPHEMERAL])
        self.assertEqual(descriptions(None, Endpoint("127.0.0.1", 2)), ["tcp:2:interface=127.0.0.1", EPHEMERAL])
        self.assertEqual(descriptions(None, Endpoint("::1", 2))[0], r"tcp:2:interface=\:\:1")

    def test_next_address_if_one_is_taken(self) -> None:
        """A port that someone else has meanwhile is passed over."""
        tried: list[int] = []

        def start(endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
            port: int = endpoint._port  # type: ignore[attr-defined]
            tried.append(port)
            return fail(CannotListenError("", port, OSError())) if port else succeed(Port("", 0))  # type: ignore[arg-type]

        def run(candidates: list[str]) -> Deferred[Any]:
            return Deferred.fromCoroutine(listen(MemoryReactor(), candidates, start))

        self.successResultOf(run(["tcp:7", EPHEMERAL]))
        self.failureResultOf(run(["tcp:7"]), CannotListenError)

        self.assertEqual(tried, [7, 0, 7])

    def test_address_that_others_can_use(self) -> None:
        """A port on all interfaces is named by the loopback."""
        for host, named in (("10.0.0.1", "10.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")):
            port: Any = Port(host, 5)
            self.assertEqual(address(port), Endpoint(named, 5))
