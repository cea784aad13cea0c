"""The catalog as others follow it: whoever has an older one waits here for the next.

A follower asks with the version that it routes by. It is answered at once if there is a newer one, else as soon as
there is, else after a while with what there is. Each question so tells how far its asker has come, which is how /init,
/add and /rm know when a client may turn to any follower and find what it has just been promised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dbnode.client.signature import is_signed
from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, Response, encode
from lbnode.catalog import Catalog
from lbnode.cluster import Controller
from lbnode.state import ClusterState
from lbnode.wire import AddRequest, InitRequest, RemoveRequest

PATH = "/catalog"
#: How many may follow one balancer.
FOLLOWERS_MAX = 1000
#: A follower that asks for longer is answered after this many seconds all the same.
WAIT_SECONDS_MAX = 60.0
#: A follower that does not wait here counts for so long after its last question: it is on its way with the next one.
_ABSENT_SECONDS = 1.0
#: How long a change of the cluster waits for followers that are there but do not take it over.
_TAKE_OVER_SECONDS = 1.0


class CatalogQuestion(msgspec.Struct, frozen=True):
    """What a follower asks: it goes by `follower`, routes by version `after`, and waits `wait_seconds` at most.

    `pid` is its process, for whoever started it.
    """

    follower: str
    after: int
    wait_seconds: Annotated[float, msgspec.Meta(ge=0)]
    pid: int = 0


class _Follower:
    """One follower: what it routes by, when it last asked, and the question that waits, if one does."""

    __slots__ = ("call", "pid", "seen_seconds", "version", "waiting")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.version = 0
        self.seen_seconds = 0.0
        self.waiting: Deferred[Catalog] | None = None
        self.call: IDelayedCall | None = None


class CatalogFeed:
    """Answers questions for the catalog that `read` returns; `changed` must hear of every new one."""

    def __init__(self, clock: IReactorTime, read: Callable[[], Catalog]) -> None:
        self._clock = clock
        self._read = read
        self._followers: dict[str, _Follower] = {}
        self._asked: list[Deferred[None]] = []
        self._stopped = False

    @property
    def followers(self) -> int:
        """How many processes follow this one."""
        return len(self._present())

    def seen_seconds(self, pid: int) -> float:
        """Return when a process last showed by following that it is alive, on the clock; 0 if it never did."""
        # A follower on another machine may have the same number: then a sign of its life counts for both.
        return max((known.seen_seconds for known in self._followers.values() if known.pid == pid), default=0.0)

    def next(self, question: CatalogQuestion) -> Deferred[Catalog]:
        """Fire with a newer catalog as soon as there is one, or with the same at the end of the wait.

        Raises ApiError `too_many_followers` or `stopping` (503). A second question of one follower ends its first.
        """
        if self._stopped:
            raise ApiError("stopping", "this balancer stops; follow another", status=503, retry_after_seconds=1)
        follower = self._follower(question)
        follower.version = question.after
        follower.seen_seconds = self._clock.seconds()
        asked, self._asked = self._asked, []
        for waiter in asked:
            waiter.callback(None)
        answer = follower.waiting = Deferred()
        if self._read().version > question.after:
            self._answer(follower)
        else:
            wait_seconds = min(question.wait_seconds, WAIT_SECONDS_MAX)
            follower.call = self._clock.callLater(wait_seconds, self._answer, follower)
        return answer

    def changed(self, catalog: Catalog) -> None:
        """Answer those who waited for this catalog."""
        for follower in list(self._followers.values()):
            if catalog.version > follower.version:
                self._answer(follower)

    async def taken_over(self) -> None:
        """Return once all followers route by the catalog as it is now; those that do not ask again are left behind."""
        version = self._read().version
        until_seconds = self._clock.seconds() + _TAKE_OVER_SECONDS
        while any(follower.version < version for follower in self._present()):
            question: Deferred[None] = Deferred()
            self._asked.append(question)
            try:
                await question.addTimeout(max(0.0, until_seconds - self._clock.seconds()), self._clock)
            except TimeoutError:
                return

    def stop(self) -> None:
        """Answer everybody (the process ends)."""
        self._stopped = True
        for follower in self._followers.values():
            self._answer(follower)

    def _follower(self, question: CatalogQuestion) -> _Follower:
        known = self._followers.get(question.follower)
        if known is not None:
            self._answer(known)
            return known
        if len(self._followers) >= FOLLOWERS_MAX:
            present = self._present()
            self._followers = {name: known for name, known in self._followers.items() if known in present}
        if len(self._followers) >= FOLLOWERS_MAX:
            text = f"{FOLLOWERS_MAX} processes follow this balancer already; follow another"
            raise ApiError("too_many_followers", text, status=503, retry_after_seconds=1)
        follower = self._followers[question.follower] = _Follower(question.pid)
        return follower

    def _present(self) -> list[_Follower]:
        since_seconds = self._clock.seconds() - _ABSENT_SECONDS
        followers = self._followers.values()
        return [known for known in followers if known.waiting is not None or known.seen_seconds >= since_seconds]

    def _answer(self, follower: _Follower) -> None:
        waiting, follower.waiting = follower.waiting, None
        call, follower.call = follower.call, None
        if call is not None and call.active():
            call.cancel()
        if waiting is not None:
            follower.seen_seconds = self._clock.seconds()
            waiting.callback(self._read())


class CatalogEndpoint:
    """POST /catalog: a feed over HTTP, for those who know the cluster's secret (signed as a server's /config is)."""

    def __init__(self, feed: CatalogFeed, secret: bytes) -> None:
        self._feed = feed
        self._secret = secret

    async def answer(self, headers: Headers, body: bytes) -> Response:
        """Answer a CatalogQuestion with a Catalog, both as JSON."""
        if not is_signed(self._secret, "POST", PATH, body, headers.get(b"authorization")):
            raise ApiError("bad_signature", "the request is not signed with the cluster's secret", status=401)
        try:
            question = msgspec.json.decode(body, type=CatalogQuestion)
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise ApiError("bad_json", f"the body is no question for the catalog: {error}") from None
        return Response(200, encode(await self._feed.next(question)))


class Announcing:
    """A Controller whose changes are known to all followers when it says that they are made."""

    def __init__(self, controller: Controller, feed: CatalogFeed) -> None:
        self._controller = controller
        self._feed = feed

    async def init(self, request: InitRequest) -> None:
        """See Controller.init."""
        await self._controller.init(request)
        await self._feed.taken_over()

    async def add(self, request: AddRequest) -> tuple[int, Sequence[str]]:
        """See Controller.add."""
        added = await self._controller.add(request)
        await self._feed.taken_over()
        return added

    async def remove(self, request: RemoveRequest) -> tuple[int, Sequence[str]]:
        """See Controller.remove."""
        removed = await self._controller.remove(request)
        await self._feed.taken_over()
        return removed

    def state(self) -> Awaitable[ClusterState]:
        """See Controller.state."""
        return self._controller.state()
