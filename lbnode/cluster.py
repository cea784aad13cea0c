"""The balancer's requests about the cluster: /init, /add, /rm and what there is to see.

Each is a function of (headers, body) and knows neither Klein nor twisted.web, as those in `hot` are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from dbnode.jsonhttp import Headers, Response, json_response
from lbnode import overview
from lbnode.router import Router
from lbnode.state import ClusterState
from lbnode.wire import (
    AddRequest,
    InitLimits,
    InitRequest,
    RemoveRequest,
    parse_add,
    parse_init,
    parse_remove,
    servers_added,
    servers_removed,
)


class Controller(Protocol):
    """What the requests need of whoever changes the cluster (lbnode.controller)."""

    def init(self, request: InitRequest) -> Awaitable[None]:
        """Make the table that is asked for; returns once it serves, raises ApiError if it was not made."""

    def add(self, request: AddRequest) -> Awaitable[tuple[int, Sequence[str]]]:
        """Add servers and shards; returns how many servers there are then, and the names of the new ones."""

    def remove(self, request: RemoveRequest) -> Awaitable[tuple[int, Sequence[str]]]:
        """Remove servers; returns how many are left, and the names of those that went."""

    def state(self) -> Awaitable[ClusterState]:
        """Return the cluster as it is now."""


class ClusterRequests:
    """The endpoints, carried out by this process's controller."""

    def __init__(self, controller: Controller, router: Router, limits: InitLimits) -> None:
        self._controller = controller
        self._router = router
        self._limits = limits

    async def init(self, headers: Headers, body: bytes) -> Response:
        """Make the table."""
        await self._controller.init(parse_init(headers, body, self._limits))
        return json_response({"message": "Configured Database", "status": "success"})

    async def add(self, headers: Headers, body: bytes) -> Response:
        """Add servers and shards."""
        key = self._router.routes().schema.key
        return Response(200, servers_added(*await self._controller.add(parse_add(headers, body, key, self._limits))))

    async def remove(self, headers: Headers, body: bytes) -> Response:
        """Remove servers."""
        self._router.routes()  # before /init there is nothing to remove, whatever is asked for
        return Response(200, servers_removed(*await self._controller.remove(parse_remove(headers, body))))

    async def status(self, headers: Headers, body: bytes) -> Response:
        """Tell everything about the cluster."""
        return json_response(overview.status(await self._controller.state()))

    async def primary_elect(self, headers: Headers, body: bytes) -> Response:
        """Tell who leads each shard."""
        return json_response(overview.primaries(await self._controller.state()))

    async def rep(self, headers: Headers, body: bytes) -> Response:
        """Name the servers."""
        return json_response(overview.servers(await self._controller.state()))

    async def readyz(self, headers: Headers, body: bytes) -> Response:
        """Say whether every shard can serve."""
        return json_response(overview.readiness(await self._controller.state()))
