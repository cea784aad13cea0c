"""GET /read/<server>: what the replicas of one server hold, shard by shard, asked of that server alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dbnode.errors import ApiError
from dbnode.jsonhttp import Answer
from dbnode.wire import LINEARIZABLE, STALE, Rows
from lbnode.ranges import whole_or_streamed
from lbnode.router import Router
from lbnode.routes import Route

#: How long the server may take to catch up with its leader before it is asked for what it has.
CATCH_UP_SECONDS = 2.0


async def read_server(router: Router, server: str) -> Answer:
    """Return the rows of each shard of which `server` has a replica.

    Raises ApiError `unknown_server` (404), `server_unavailable` (503) if it does not answer at all.

    A replica that has contact to its leader answers with everything that was acknowledged before; one that has none,
    which is when one most wants to look at it, with what it has.
    """
    routes = router.routes()
    if server not in routes.servers:
        names = ", ".join(sorted(routes.servers))
        raise ApiError("unknown_server", f"there is no server {server!r}; the servers are {names}", status=404)
    held = [route for route in routes if server in route.servers]
    return await whole_or_streamed(_chunks(router, server, held))


async def _chunks(router: Router, server: str, held: list[Route]) -> AsyncIterator[bytes]:
    yield b"{"
    for route in held:
        yield route.name_json + b":["
        page = await _first_page(router, server, route)
        yield page.data
        while page.next is not None:
            page = await _page(router, server, route, page.next, STALE)
            yield b"," + page.data if page.data else b""
        yield b"],"
    yield b'"status":"success"}'


async def _first_page(router: Router, server: str, route: Route) -> Rows:
    try:
        return await _page(router, server, route, route.low, LINEARIZABLE)
    except ApiError:
        return await _page(router, server, route, route.low, STALE)


async def _page(router: Router, server: str, route: Route, low: int, consistency: int) -> Rows:
    try:
        return await router.read_from((server,), route, low, route.high, 0, consistency, CATCH_UP_SECONDS)
    except ApiError as error:
        if error.code != "no_quorum":
            raise
        text = f"{server} does not answer for shard {route.shard}; POST /read asks all servers that have it"
        raise ApiError("server_unavailable", text, status=503, retry_after_seconds=error.retry_after_seconds) from error
