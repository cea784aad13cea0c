"""A whole cluster in memory with followers of its balancer; everything between them can be cut."""

from __future__ import annotations

import random
from pathlib import Path

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import LoopingCall
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from dbnode.client.control import ControlFailed
from dbnode.errors import ApiError
from dbnode.jsonhttp import JsonSite, Limits
from dbnode.test.request_body import Body
from dbnode.wire import Endpoint
from lbnode.catalog import Catalog
from lbnode.feed import CatalogFeed, CatalogQuestion
from lbnode.follower import Follower, FollowerSettings
from lbnode.following import FollowTimes
from lbnode.launchers.memory import HomeLinks
from lbnode.router import RouterOptions
from lbnode.test.cluster import CLUSTER_ID, Cluster
from raftlog.link import Identity, Receive
from raftlog.link.memory import MemoryLinks

#: How often answers on their way are delivered.
_TURN_SECONDS = 0.02


class MemorySource:
    """A CatalogSource whose balancers are feeds in memory; those in `gone` refuse connections."""

    def __init__(self, feeds: dict[Endpoint, CatalogFeed]) -> None:
        self.feeds = feeds
        self.gone: set[Endpoint] = set()
        #: Whom each question was for, in order.
        self.asked: list[tuple[Endpoint, CatalogQuestion]] = []

    async def ask(self, balancer: Endpoint, question: CatalogQuestion, timeout_seconds: float) -> Catalog:
        """See CatalogSource.ask."""
        self.asked.append((balancer, question))
        if balancer in self.gone:
            raise ControlFailed("unreachable", "connection refused")
        try:
            return await self.feeds[balancer].next(question)
        except ApiError as error:
            raise ControlFailed(error.code, error.text, error.status) from error
        except CancelledError:
            # To HTTP's client it is all the same whether its time was over or nobody wants the answer any more.
            raise ControlFailed("unreachable", "no answer in time") from None


@implementer(IAgent)
class CutAgent:
    """An agent of a site in memory: connections are refused while it is `cut`, and answers lost while `silent`."""

    def __init__(self, agent: RequestTraversalAgent) -> None:
        self._agent = agent
        self.cut = False
        self.silent = False

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See IAgent.request."""
        if self.cut:
            return fail(ConnectionRefusedError())
        if self.silent:
            return Deferred()
        answered: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return answered


class FollowedCluster(Cluster):
    """A cluster, and a follower of its balancer, which it reaches from the start only if it is `connected`."""

    def __init__(self, directory: Path, *, connected: bool = True) -> None:
        super().__init__(directory)
        self.address = Endpoint("10.0.0.1", 5000)
        self.source = MemorySource({self.address: self.balancer.feed})
        agent = RequestTraversalAgent(self.balancer.app.app.resource())
        self._deliveries = LoopingCall(agent.flush)
        self._deliveries.clock = self.clock
        self._delivering = self._deliveries.start(_TURN_SECONDS)
        self.agent = CutAgent(agent)
        self.follower = Follower(
            self.clock,
            random.Random(3),
            name="follower-1",
            balancers=[self.address],
            source=self.source,
            http=HTTPClient(self.agent, data_to_body_producer=Body),
            links_of=self._follower_links_of,
            settings=FollowerSettings(RouterOptions(), rows_max=100_000, forward_seconds=600.0, follow=FollowTimes()),
        )
        if not connected:
            self.cut_off()
        self.follower.start()

    def cut_off(self) -> None:
        """Let the follower lose its balancer."""
        self.source.gone.add(self.address)
        self.agent.cut = True

    def reconnect(self) -> None:
        """Let the follower reach its balancer again."""
        self.source.gone.clear()
        self.agent.cut = False

    def follower_site(self) -> JsonSite:
        """Return the follower's site."""
        app = self.follower.app
        return JsonSite(self.clock, app.app.resource(), Limits(), app.direct, app.uploads)

    def stop(self) -> None:
        """Stop everything."""
        self.run(self.follower.stop())
        self._deliveries.stop()
        super().stop()

    def _follower_links_of(self, cluster_id: str, receive: Receive) -> HomeLinks:
        assert cluster_id == CLUSTER_ID
        identity = Identity(cluster_id, "balancer", "follower-1", "follower-1")
        return HomeLinks(MemoryLinks(self.launcher.network, identity, receive), self.launcher.home_at)
