"""Following a catalog: from whichever balancer answers, by version, and patiently when none does."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client.control import Control, ControlFailed
from dbnode.test.request_body import Body
from dbnode.wire import Endpoint
from lbnode.catalog import Catalog
from lbnode.feed import CatalogFeed, CatalogQuestion
from lbnode.following import Following, FollowTimes, HttpCatalogSource
from lbnode.test.cluster import SECRET, Cluster
from lbnode.test.followed_cluster import MemorySource

ONE, TWO = Endpoint("10.0.0.1", 5000), Endpoint("10.0.0.2", 5000)
TIMES = FollowTimes(wait_seconds=5.0, answer_seconds=3.0, pause_seconds_min=0.1, pause_seconds_max=2.0)


class Balancer:
    """What there is of a balancer for its followers."""

    def __init__(self, clock: Clock) -> None:
        self.catalog = Catalog(cluster_id="c1", version=1)
        self.feed = CatalogFeed(clock, lambda: self.catalog)

    def change(self, version: int) -> None:
        """Have another version of the catalog."""
        self.catalog = msgspec.structs.replace(self.catalog, version=version)
        self.feed.changed(self.catalog)


class FollowingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Follow two balancers of one cluster."""
        self.clock = Clock()
        self.one, self.two = Balancer(self.clock), Balancer(self.clock)
        self.source = MemorySource({ONE: self.one.feed, TWO: self.two.feed})
        self.taken: list[int] = []
        self.following = Following(
            self.clock, random.Random(1), self.source, [ONE, TWO], "follower-1", self.take, TIMES
        )

    def take(self, catalog: Catalog) -> None:
        """Take note of a catalog's version."""
        self.taken.append(catalog.version)

    def start(self) -> None:
        """Begin to follow."""
        self.following.startService()
        self.addCleanup(self.following.stopService)

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps."""
        self.clock.pump([0.05] * round(seconds / 0.05))

    def asked(self) -> list[Endpoint]:
        """Return who was asked since the last time, in order."""
        asked, self.source.asked = self.source.asked, []
        return [balancer for balancer, _ in asked]

    def test_news_arrive_at_once(self) -> None:
        """The catalog is taken over when it is asked for first, and whenever it changes; other news there are none."""
        self.start()
        self.pass_time(12)
        self.one.change(2)
        self.one.change(3)

        self.assertEqual(self.taken, [1, 2, 3])
        self.assertEqual(self.following.balancer, ONE)
        self.assertEqual(set(self.asked()), {ONE})

    def test_another_balancer(self) -> None:
        """When one is gone the next is asked at once, and followed until it is gone."""
        self.start()
        self.pass_time(1)
        self.asked()
        self.source.gone = {ONE}
        self.two.change(2)
        self.pass_time(6)

        self.assertEqual((self.taken, self.following.balancer), ([1, 2], TWO))
        self.assertEqual(self.asked()[:2], [ONE, TWO])
        self.source.gone = set()
        self.two.change(3)
        self.assertEqual((self.taken, self.following.balancer), ([1, 2, 3], TWO))

    def test_a_balancer_that_is_behind(self) -> None:
        """One that knows less than was learned elsewhere is followed, but what it says is not taken over."""
        self.one.change(7)
        self.start()
        self.source.gone = {ONE}
        self.pass_time(10)

        self.assertEqual((self.taken, self.following.balancer), ([7], TWO))
        self.two.change(8)
        self.pass_time(0.2)
        self.assertEqual(self.taken, [7, 8])
        self.assertLess(len(self.asked()), 60)

    def test_nobody_answers(self) -> None:
        """What was learned last stays; all are tried again and again, ever more rarely, and the reason is told."""
        self.start()
        self.source.gone = {ONE, TWO}
        self.one.change(2)
        self.pass_time(60)

        self.assertEqual(self.following.catalog, self.one.catalog)
        self.assertIsNone(self.following.balancer)
        self.assertIn("10.0.0.2:5000: connection refused", self.following.reason)
        self.assertTrue(50 < self.following.lost_seconds <= 60, self.following.lost_seconds)
        self.assertTrue(60 <= len(self.asked()) <= 160)
        self.source.gone = {ONE}
        self.pass_time(2.1)
        self.assertEqual((self.following.balancer, self.following.lost_seconds), (TWO, 0.0))

    def test_another_cluster(self) -> None:
        """A balancer of another cluster, or of none yet, is not followed."""
        self.start()
        self.one.catalog = msgspec.structs.replace(self.one.catalog, cluster_id="c2")
        self.two.catalog = Catalog()
        self.one.change(5)
        self.pass_time(10)

        self.assertEqual(self.taken, [1])
        self.assertIsNone(self.following.balancer)

    def test_a_balancer_that_starts_later(self) -> None:
        """Whoever follows may be there before those whom it follows."""
        self.source.gone = {ONE, TWO}
        self.start()
        impatient, patient = [Deferred.fromCoroutine(self.following.informed(seconds)) for seconds in (5, 60)]
        self.pass_time(20)
        self.assertIsNone(self.following.catalog)
        self.successResultOf(impatient)
        self.assertNoResult(patient)

        self.source.gone = set()
        self.pass_time(2.1)

        self.assertEqual(self.taken, [1])
        self.successResultOf(patient)
        self.successResultOf(Deferred.fromCoroutine(self.following.informed(5)))

    def test_stopping(self) -> None:
        """A follower that stops asks nobody any more."""
        self.following.startService()
        stopped = self.following.stopService()
        assert stopped is not None

        self.successResultOf(stopped)
        self.asked()
        self.pass_time(20)
        self.assertEqual(self.asked(), [])


class HttpCatalogSourceTests(SynchronousTestCase):
    def ask(self, secret: bytes) -> Deferred[Catalog]:
        """Ask the balancer of a cluster in memory over HTTP."""
        cluster = Cluster(Path(self.mktemp()))
        self.addCleanup(cluster.stop)
        http = HTTPClient(RequestTraversalAgent(cluster.balancer.app.app.resource()), data_to_body_producer=Body)
        source = HttpCatalogSource(Control(cluster.clock, http, secret))
        return Deferred.fromCoroutine(source.ask(ONE, CatalogQuestion("follower-1", 0, 5.0), 8.0))

    def test_catalog(self) -> None:
        """The balancer's catalog arrives."""
        self.assertEqual(self.successResultOf(self.ask(SECRET)).cluster_id, "c1")

    def test_refusal(self) -> None:
        """A refusal is told as what it is."""
        error = self.failureResultOf(self.ask(b"another"), ControlFailed).value

        self.assertEqual((error.code, error.status), ("bad_signature", 401))
