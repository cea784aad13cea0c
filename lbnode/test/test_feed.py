"""The catalog's feed: who waits for what, how long, and who is waited for."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dbnode.client.signature import sign
from dbnode.errors import ApiError
from dbnode.jsonhttp import Response, encode
from lbnode.catalog import Catalog
from lbnode.feed import FOLLOWERS_MAX, CatalogEndpoint, CatalogFeed, CatalogQuestion

SECRET = b"secret"


class FeedCase(SynchronousTestCase):
    """A feed of a catalog in version 5."""

    def setUp(self) -> None:
        """Make the feed."""
        self.clock = Clock()
        self.catalog = Catalog(cluster_id="c1", version=5)
        self.feed = CatalogFeed(self.clock, lambda: self.catalog)
        self.asked: list[Deferred[Catalog]] = []

    def ask(self, after: int, *, follower: str = "a", wait_seconds: float = 5.0) -> Deferred[Catalog]:
        """Ask for a newer catalog."""
        return self.feed.next(CatalogQuestion(follower, after, wait_seconds))

    def routes_by(self, version: int, *, follower: str = "a") -> None:
        """Let a follower ask for what comes after this version; its answer does not matter."""
        self.asked.append(self.ask(version, follower=follower))

    def change(self) -> None:
        """Let there be a newer catalog."""
        self.catalog = msgspec.structs.replace(self.catalog, version=self.catalog.version + 1)
        self.feed.changed(self.catalog)


class QuestionTests(FeedCase):
    def test_news_at_once(self) -> None:
        """Who has an older catalog is told the newer one without waiting."""
        self.assertEqual(self.successResultOf(self.ask(4)).version, 5)

    def test_waits_for_news(self) -> None:
        """Who has the newest one is answered when there is another."""
        asked = [self.ask(5, follower=name) for name in "ab"]
        self.clock.advance(1)
        for question in asked:
            self.assertNoResult(question)

        self.change()

        self.assertEqual([self.successResultOf(question).version for question in asked], [6, 6])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_does_not_wait_for_ever(self) -> None:
        """Without news the answer is the same catalog, at the end of the wait, and never later than a minute."""
        asked, long = self.ask(5), self.ask(5, follower="b", wait_seconds=1e9)

        self.clock.advance(5)
        self.assertEqual(self.successResultOf(asked).version, 5)
        self.assertNoResult(long)
        self.clock.advance(55)
        self.assertEqual(self.successResultOf(long).version, 5)

    def test_a_second_question_ends_the_first(self) -> None:
        """A follower that lost its answer and asks again does not take two places."""
        first = self.ask(5)

        second = self.ask(5)

        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(self.feed.followers, 1)

    def test_many_followers(self) -> None:
        """One too many is refused, until one of those that wait goes away."""
        asked = [self.ask(5, follower=str(number), wait_seconds=2.0) for number in range(FOLLOWERS_MAX)]

        error = self.assertRaises(ApiError, self.ask, 5, follower="one more")
        self.assertEqual((error.code, error.status, error.retry_after_seconds), ("too_many_followers", 503, 1))
        self.clock.advance(2.0)
        for question in asked:
            self.successResultOf(question)
        self.clock.advance(2.0)
        self.assertNoResult(self.ask(5, follower="one more"))
        self.assertEqual(self.feed.followers, 1)

    def test_signs_of_life(self) -> None:
        """Whoever started a follower can see when it last asked or was answered."""
        self.clock.advance(3)
        self.asked.append(self.feed.next(CatalogQuestion("a", 5, 5.0, pid=7)))
        self.clock.advance(1)
        self.assertEqual((self.feed.seen_seconds(7), self.feed.seen_seconds(8)), (3.0, 0.0))

        self.clock.advance(4)

        self.assertEqual(self.feed.seen_seconds(7), 8.0)

    def test_stopping(self) -> None:
        """Nobody is kept waiting by a balancer that stops, and nobody begins to."""
        asked = self.ask(5)

        self.feed.stop()

        self.successResultOf(asked)
        self.assertEqual(self.assertRaises(ApiError, self.ask, 5).code, "stopping")


class TakingOverTests(FeedCase):
    def taken_over(self) -> Deferred[None]:
        """Wait until all followers have the newest catalog."""
        return Deferred.fromCoroutine(self.feed.taken_over())

    def test_nobody_follows(self) -> None:
        """There is nobody to wait for."""
        self.successResultOf(self.taken_over())

    def test_waits_for_all_who_are_there(self) -> None:
        """It is over when each has asked for what comes after the newest."""
        self.routes_by(5, follower="a")
        self.routes_by(5, follower="b")
        self.change()
        waiting = self.taken_over()

        self.routes_by(6, follower="a")
        self.assertNoResult(waiting)
        self.routes_by(6, follower="b")
        self.successResultOf(waiting)

    def test_does_not_wait_for_those_who_are_gone(self) -> None:
        """A follower that does not come back is waited for for a second, one that was gone before not at all."""
        self.routes_by(5)
        self.change()
        waiting = self.taken_over()

        self.clock.advance(0.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting)
        self.successResultOf(self.taken_over())


class EndpointTests(FeedCase):
    def setUp(self) -> None:
        """Put an endpoint in front of the feed."""
        super().setUp()
        self.endpoint = CatalogEndpoint(self.feed, SECRET)

    def post(self, body: bytes, authorization: bytes | None = None) -> Deferred[Response]:
        """Ask as a follower does over HTTP."""
        signature = sign(SECRET, "POST", "/catalog", body) if authorization is None else authorization
        return Deferred.fromCoroutine(self.endpoint.answer({b"authorization": signature}, body))

    def test_a_catalog_as_json(self) -> None:
        """The answer is the catalog, and can be decoded as one."""
        answer = self.successResultOf(self.post(encode(CatalogQuestion("a", 0, 5.0))))

        self.assertEqual(msgspec.json.decode(answer.body, type=Catalog), self.catalog)

    def test_only_for_the_cluster(self) -> None:
        """Without the cluster's secret there is nothing to be had, and nobody is kept waiting."""
        body = encode(CatalogQuestion("a", 0, 5.0))

        for authorization in (b"", b"Shardlb 00", sign(b"another", "POST", "/catalog", body)):
            error = self.failureResultOf(self.post(body, authorization), ApiError).value
            self.assertEqual((error.code, error.status), ("bad_signature", 401))

    def test_what_is_no_question(self) -> None:
        """A body of another kind is refused."""
        backwards = b'{"follower":"a","after":5,"wait_seconds":-1}'
        for body in (b"", b"[]", b'{"after":1}', b"\xff", backwards):
            self.assertEqual(self.failureResultOf(self.post(body), ApiError).value.code, "bad_json")
