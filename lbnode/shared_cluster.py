"""Requests about the cluster at one of several balancers: answered by the controller, passed on by the others.

Who is told that something is done may turn to any balancer next: the answer waits, not for long, until those that are
there know of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from dbnode.jsonhttp import Headers, Response
from lbnode.cluster import ClusterRequests, Controller
from lbnode.council import Council
from lbnode.forwarding import Forwarding
from lbnode.router import Router
from lbnode.state import ClusterState
from lbnode.wire import AddRequest, InitLimits, InitRequest, RemoveRequest

#: How long an answer waits for balancers that are there and do not take the change over.
_TAKE_OVER_SECONDS = 1.0


class SharedController:
    """A Controller whose changes all balancers know when it says that they are made, and whose state names them."""

    def __init__(self, controller: Controller, council: Council) -> None:
        self._controller = controller
        self._council = council

    async def init(self, request: InitRequest) -> None:
        """See Controller.init."""
        await self._controller.init(request)
        await self._council.taken_over(_TAKE_OVER_SECONDS)

    async def add(self, request: AddRequest) -> tuple[int, Sequence[str]]:
        """See Controller.add."""
        added = await self._controller.add(request)
        await self._council.taken_over(_TAKE_OVER_SECONDS)
        return added

    async def remove(self, request: RemoveRequest) -> tuple[int, Sequence[str]]:
        """See Controller.remove."""
        removed = await self._controller.remove(request)
        await self._council.taken_over(_TAKE_OVER_SECONDS)
        return removed

    async def state(self) -> ClusterState:
        """See Controller.state."""
        return msgspec.structs.replace(
            await self._controller.state(),
            controller=self._council.office.holder,
            balancers=self._council.balancers(),
            stale_seconds=self._council.stale_seconds,
        )


class SharedRequests(ClusterRequests):
    """The endpoints: those that change the cluster are passed on unless this balancer is the controller."""

    def __init__(
        self,
        controller: Controller,
        router: Router,
        limits: InitLimits,
        council: Council,
        forwarding: Forwarding,
        announced: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(controller, router, limits)
        self._council = council
        self._forwarding = forwarding
        self._announced = announced

    async def init(self, headers: Headers, body: bytes) -> Response:
        """Make the table, or have it made."""
        if self._council.office.held_here:
            return await super().init(headers, body)
        return await self._elsewhere("POST", "/init", headers, body)

    async def add(self, headers: Headers, body: bytes) -> Response:
        """Add servers and shards, or have them added."""
        if self._council.office.held_here:
            return await super().add(headers, body)
        return await self._elsewhere("POST", "/add", headers, body)

    async def remove(self, headers: Headers, body: bytes) -> Response:
        """Remove servers, or have them removed."""
        if self._council.office.held_here:
            return await super().remove(headers, body)
        return await self._elsewhere("DELETE", "/rm", headers, body)

    async def _elsewhere(self, method: str, path: str, headers: Headers, body: bytes) -> Response:
        answer = await self._forwarding.forward(method, path, headers, body)
        await self._announced()
        return answer
