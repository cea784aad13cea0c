"""The control plane in mutual TLS, through real sockets: who asks, and who answers, must be who their names say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from klein import Klein
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http import Request

from dbnode.client.control import Control, ControlFailed
from dbnode.client.tls import ServersOnly
from dbnode.jsonhttp import JsonSite, Limits
from dbnode.wire import Endpoint
from raftlog.tls import MutualTls, TlsRole
from raftlog.tls.authority import issue, make_authority
from raftlog.tls.channel import HANDSHAKE_SECONDS, STRANGERS_MAX

_ASKING: tuple[TlsRole, ...] = ("balancer", "operator")


class Alive:
    """A server that is alive."""

    app = Klein()

    @app.route("/heartbeat")
    def _heartbeat(self, request: Request) -> bytes:
        return b""


class Silent(Protocol):
    """Somebody who connects and says nothing; `lost` fires when he is cut off."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        """Take note."""
        self.lost.callback(None)


class ControlTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        """Make an authority."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.certificates = Path(self.mktemp())
        make_authority(self.certificates, "c1", datetime.now(UTC))
        self.refused: list[tuple[str, str]] = []

    def tls(self, role: TlsRole, name: str, age_days: int = 0) -> MutualTls:
        """Return the TLS of a process whose certificate was made so many days ago."""
        issue(self.certificates, role, name, datetime.now(UTC) - timedelta(days=age_days), 30)
        return MutualTls(self.reactor, self.certificates, role, name)

    async def answering(self, tls: MutualTls) -> Endpoint:
        """Return where a process with this certificate answers heartbeats."""
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        site = JsonSite(self.reactor, Alive().app.resource(), Limits())
        guarded = tls.server(endpoint, _ASKING, lambda host, reason: self.refused.append((host, reason)))
        port: Any = await guarded.listen(site)
        self.addCleanup(port.stopListening)
        return Endpoint("127.0.0.1", port.getHost().port)

    async def ask(self, tls: MutualTls, at: Endpoint) -> str:
        """Ask for a heartbeat; return why there was none, or "alive"."""
        agent = Agent(self.reactor, ServersOnly(tls), pool=HTTPConnectionPool(self.reactor, persistent=False))
        try:
            await Control(self.reactor, HTTPClient(agent), b"secret", tls=True).heartbeat(at, 10.0)
        except ControlFailed as error:
            return str(error)
        return "alive"

    async def test_balancers_and_operators_ask(self) -> None:
        """They are answered, and nobody is refused."""
        at = await self.answering(self.tls("server", "A"))

        self.assertEqual(await self.ask(self.tls("balancer", "lb"), at), "alive")
        self.assertEqual(await self.ask(self.tls("operator", "ops"), at), "alive")
        self.assertEqual(self.refused, [])

    async def test_nobody_else_asks(self) -> None:
        """A server is refused, and a balancer whose time is over; both hear of TLS, and who listens hears why."""
        at = await self.answering(self.tls("server", "A"))

        for tls in (self.tls("server", "B"), self.tls("balancer", "lb", age_days=31)):
            self.assertRegex(await self.ask(tls, at), "^unreachable: TLS failed: .*alert")
        self.assertEqual(
            self.refused,
            [
                ("127.0.0.1", "its certificate is of server B of cluster c1; wanted here: balancer or operator"),
                ("127.0.0.1", "its certificate has expired"),
            ],
        )

    async def test_strangers_are_bounded(self) -> None:
        """Who never begins TLS is driven out by others who do not, or cut off in time; meanwhile balancers ask."""
        clock = Clock()
        issue(self.certificates, "server", "A", datetime.now(UTC))
        at = await self.answering(MutualTls(clock, self.certificates, "server", "A"))
        endpoint = TCP4ClientEndpoint(self.reactor, at.host, at.port)
        crowd = [await connectProtocol(endpoint, Silent()) for _ in range(STRANGERS_MAX + 10)]

        self.assertEqual(await self.ask(self.tls("balancer", "lb"), at), "alive")
        self.assertFalse(crowd[-1].lost.called)
        await DeferredList([silent.lost for silent in crowd[:10]])
        clock.advance(HANDSHAKE_SECONDS)
        await DeferredList([silent.lost for silent in crowd])
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_servers_answer(self) -> None:
        """Whoever answers in a server's place without its kind of certificate is told nothing."""
        at = await self.answering(self.tls("balancer", "lb"))

        self.assertIn("certificate verify failed", await self.ask(self.tls("balancer", "lb"), at))
