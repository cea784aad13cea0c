"""The four data requests of the balancer: POST /read, POST /write, PUT /update, DELETE /del.

Each is a function of (headers, body) and knows neither Klein nor twisted.web. A request for one shard, which is nearly
every one, costs one decode, one look-up, a place in a frame and one encode; whatever costs more stands off that path.
A change that was refused says so: `applied` is in every failure of /write, /update and /del.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeAlias, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from dbnode.errors import ApiError
from dbnode.jsonhttp import Answer, Headers, Response, Upload
from dbnode.wire import Write
from lbnode import wire
from lbnode.bulk import store_lines
from lbnode.outcomes import delete_answer, outcome_of, update_answer, write_answer
from lbnode.ranges import read_range
from lbnode.router import Router

_Body = TypeVar("_Body", bytes, Upload)
_Change: TypeAlias = Callable[["DataRequests", Headers, _Body], Deferred[Response]]


def _tells_applied(change: _Change[_Body]) -> _Change[_Body]:
    """Complete a refusal that came before any shard was asked: nothing was applied."""

    @wraps(change)
    def checked(self: DataRequests, headers: Headers, body: _Body) -> Deferred[Response]:
        try:
            return change(self, headers, body)
        except ApiError as error:
            error.applied = "no"
            raise

    return checked


class DataRequests:
    """The four endpoints, over a router. `rows_max` bounds the rows of one /write."""

    def __init__(self, router: Router, *, rows_max: int) -> None:
        self._router = router
        self._rows_max = rows_max

    def read(self, headers: Headers, body: bytes) -> Deferred[Answer]:
        """Return the rows of a range of ids, by id."""
        routes = self._router.routes()
        return read_range(self._router, routes, wire.parse_read(headers, body, routes.schema))

    @_tells_applied
    def write(self, headers: Headers, body: bytes) -> Deferred[Response]:
        """Store rows: for each shard all that belong to it, or none."""
        routes = self._router.routes()
        schema = routes.schema
        request = wire.parse_write(headers, body, schema, self._rows_max)
        parts = [
            (route, wire.keyed(headers, Write(rows, request.on_conflict))) for route, rows in routes.split(request.rows)
        ]
        named = [(route.shard, write) for route, write in parts]
        if len(parts) == 1:
            return self._router.change(*parts[0]).addBoth(
                lambda result: write_answer(schema, named, [outcome_of(result)])
            )
        results = DeferredList([self._router.change(route, write) for route, write in parts], consumeErrors=True)
        return results.addCallback(
            lambda pairs: write_answer(schema, named, [outcome_of(result) for _, result in pairs])
        )

    @_tells_applied
    def write_lines(self, headers: Headers, pieces: Upload) -> Deferred[Response]:
        """Store rows that come as lines, while they come."""
        return store_lines(self._router, headers, pieces)

    @_tells_applied
    def update(self, headers: Headers, body: bytes) -> Deferred[Response]:
        """Change the columns given of one row."""
        routes = self._router.routes()
        schema = routes.schema
        update = wire.keyed(headers, wire.parse_update(headers, body, schema))
        route = routes.find_row(update.id)
        return self._router.change(route, update).addBoth(
            lambda result: update_answer(schema, route.shard, update.id, outcome_of(result))
        )

    @_tells_applied
    def delete(self, headers: Headers, body: bytes) -> Deferred[Response]:
        """Remove one row."""
        routes = self._router.routes()
        schema = routes.schema
        delete = wire.keyed(headers, wire.parse_delete(headers, body, schema))
        route = routes.find_row(delete.id)
        return self._router.change(route, delete).addBoth(
            lambda result: delete_answer(schema, route.shard, delete.id, outcome_of(result))
        )
