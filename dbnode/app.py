"""A database server's HTTP endpoints (HTTP_API.md, "Database server"), on Klein.

Each endpoint checks its request, asks, and says the outcome in the contract's exact words; what it asks is in `host`
(what the server holds) and `direct` (rows).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from dbnode.configuring import Configuring
from dbnode.direct import Direct
from dbnode.errors import ApiError
from dbnode.jsonhttp import (
    Headers,
    Response,
    Streamed,
    answer,
    decode_object,
    decode_strict,
    encode,
    errors_as_json,
    fields,
    json_response,
    need,
)
from dbnode.metrics import Metrics
from dbnode.schema import INT64_MAX, INT64_MIN, Schema, changes_from_object, key_from_json, rows_from_json
from dbnode.wire import (
    LINEARIZABLE,
    STALE,
    Delete,
    Duplicate,
    GroupConfig,
    NotFound,
    Result,
    Stored,
    Update,
    Write,
)

_Change: TypeAlias = Callable[["ServerApp", Headers, bytes], Awaitable[Response]]


def _tells_applied(change: _Change) -> _Change:
    """Complete a refusal that came before the shard was asked: nothing was applied."""

    @wraps(change)
    async def checked(self: ServerApp, headers: Headers, body: bytes) -> Response:
        try:
            return await change(self, headers, body)
        except ApiError as error:
            error.applied = error.applied or "no"
            raise

    return checked


class ServerApp:
    """The endpoints. `server_id` is what /home says."""

    app = Klein()
    errors_as_json(app)

    def __init__(self, server_id: str, configuring: Configuring, direct: Direct, metrics: Metrics) -> None:
        self._server_id = server_id
        self._configuring = configuring
        self._direct = direct
        self._metrics = metrics

    # ---- routes -------------------------------------------------------------------------------------------------

    @app.route("/config", methods=["POST"])
    def _config(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.config)

    @app.route("/heartbeat", methods=["GET"])
    def _heartbeat(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.heartbeat)

    @app.route("/copy", methods=["GET", "POST"])
    def _copy(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.copy)

    @app.route("/read", methods=["POST"])
    def _read(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.read)

    @app.route("/write", methods=["POST"])
    def _write(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.write)

    @app.route("/update", methods=["PUT"])
    def _update(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.update)

    @app.route("/del", methods=["DELETE"])
    def _delete(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.delete)

    @app.route("/home", methods=["GET"])
    def _home(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.home)

    @app.route("/healthz", methods=["GET"])
    def _healthz(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.healthz)

    @app.route("/metrics", methods=["GET"])
    def _metrics_text(self, request: Request) -> Deferred[None] | None:
        return answer(request, self.metrics)

    # ---- endpoints ----------------------------------------------------------------------------------------------

    async def config(self, headers: Headers, body: bytes) -> Response:
        """Hold the shards named; see dbnode.configuring for who may say so."""
        shards = await self._configuring.configure(headers.get(b"authorization"), body, decode_strict(headers, body))
        told = ", ".join(f"{self._configuring.server}:{shard}" for shard in shards)
        return json_response({"message": f"{told} configured", "status": "success"})

    def heartbeat(self, headers: Headers, body: bytes) -> Response:
        """Say that the process answers."""
        return Response(200, b"", ())

    def home(self, headers: Headers, body: bytes) -> Response:
        """Say who answers."""
        return _success(f"Hello from Server: {self._server_id}")

    def healthz(self, headers: Headers, body: bytes) -> Response:
        """Say that the process is alive, and which replicas it lost."""
        return json_response({"status": "success", "quarantined": self._configuring.quarantined})

    def metrics(self, headers: Headers, body: bytes) -> Response:
        """Return the figures in Prometheus' text format."""
        return Response(200, self._metrics.text(), ((b"Content-Type", self._metrics.content_type),))

    def copy(self, headers: Headers, body: bytes) -> Streamed:
        """Stream all rows of the shards named, as this server has them."""
        shards = need(fields(decode_object(headers, body), "shards"), "shards")
        if not isinstance(shards, list):
            raise ApiError("bad_value", 'shards must be a list of names, such as ["sh1", "sh2"]')
        groups = [self._direct.group(shard) for shard in shards]
        if len({group.group_id for group in groups}) != len(groups):
            raise ApiError("bad_value", "a shard is named twice; the answer has each once")
        return Streamed(self._copies(groups))

    async def read(self, headers: Headers, body: bytes) -> Response | Streamed:
        """Return the rows of a range of one shard, by id; streamed if they are many."""
        key = self._direct.table().key
        given = fields(decode_object(headers, body), "shard", key)
        group = self._direct.group(need(given, "shard"))
        low, high = _range(need(given, key), key)
        rows = await self._direct.page(group, low, high, LINEARIZABLE)
        if rows.next is None:
            return Response(200, b'{"data":[' + rows.data + b'],"status":"success"}')
        return Streamed(self._rest(group, rows.data, rows.next, high))

    @_tells_applied
    async def write(self, headers: Headers, body: bytes) -> Response:
        """Store all rows or none."""
        given = fields(decode_object(headers, body), "shard", "data", "curr_idx")
        group = self._direct.group(need(given, "shard"))
        rows = rows_from_json(self._direct.table(), need(given, "data"))
        current_index = given.get("curr_idx")
        if current_index is not None and type(current_index) is not int:
            raise ApiError("bad_value", "curr_idx must be an integer")
        result = _done(await self._direct.change(group, Write(rows)), self._direct.table())
        assert isinstance(result, Stored)
        told: dict[str, Any] = {"message": "Data entries added", "status": "success"}
        if current_index is not None:
            told["current_idx"] = current_index + result.count
        return json_response(told)

    @_tells_applied
    async def update(self, headers: Headers, body: bytes) -> Response:
        """Change the columns given of one row."""
        schema = self._direct.table()
        given = fields(decode_object(headers, body), "shard", schema.key, "data")
        group = self._direct.group(need(given, "shard"))
        key = key_from_json(need(given, schema.key), schema.key)
        changes = changes_from_object(schema, need(given, "data"), key)
        _done(await self._direct.change(group, Update(key, changes)), schema, key)
        return _success(f"Data entry for {schema.key}:{key} updated")

    @_tells_applied
    async def delete(self, headers: Headers, body: bytes) -> Response:
        """Remove one row."""
        schema = self._direct.table()
        given = fields(decode_object(headers, body), "shard", schema.key)
        group = self._direct.group(need(given, "shard"))
        key = key_from_json(need(given, schema.key), schema.key)
        _done(await self._direct.change(group, Delete(key)), schema, key)
        return _success(f"Data entry with {schema.key}:{key} removed")

    # ---- streams ------------------------------------------------------------------------------------------------

    async def _rest(self, group: GroupConfig, first: bytes, start: int, high: int) -> AsyncIterator[bytes]:
        yield b'{"data":[' + first
        async for page in self._direct.pages(group, start, high, LINEARIZABLE):
            yield b"," + page
        yield b'],"status":"success"}'

    async def _copies(self, groups: list[GroupConfig]) -> AsyncIterator[bytes]:
        begin = b"{"
        for group in groups:
            begin += encode(group.shard) + b":["
            async for page in self._direct.pages(group, INT64_MIN, INT64_MAX, STALE):
                yield begin + page
                begin = b","
            begin = (b"" if begin == b"," else begin) + b"],"
        yield begin + b'"status":"success"}'


def _success(message: str) -> Response:
    return json_response({"message": message, "status": "success"})


def _range(value: Any, key: str) -> tuple[int, int]:
    if not isinstance(value, dict):
        raise ApiError("bad_range", f'{key} must be a range, such as {{"low":0,"high":99}}')
    given = fields(value, "low", "high")
    low = key_from_json(need(given, "low"), "low", key)
    high = key_from_json(need(given, "high"), "high", key)
    if low > high:
        raise ApiError("bad_range", f"low {low} is greater than high {high}; both ends belong to the range")
    return low, high


def _done(result: Result, schema: Schema, key: int | None = None) -> Result:
    """Return the result of a change that happened; raise ApiError for one that did not."""
    if isinstance(result, Duplicate):
        listed = ", ".join(map(str, result.ids[:10]))
        text = f"{schema.key} {listed} exists already, or twice in the request; nothing was stored"
        raise ApiError("duplicate", text, status=409, applied="no", extra={"ids": list(result.ids)})
    if isinstance(result, NotFound):
        raise ApiError("not_found", f"no row with {schema.key} {key}", status=404, applied="no")
    return result
