"""The balancer's HTTP endpoints (HTTP_API, "Balancer"), on Klein.

Data requests are in `hot`; here are those about the cluster, and the table of all routes. Every endpoint is a function
of (headers, body), so that the hot ones can be served without Klein (`direct`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from dbnode.jsonhttp import Answer, Endpoint, Headers, Response, answer, errors_as_json, json_response
from lbnode import overview
from lbnode.hot import DataRequests
from lbnode.metrics import Metrics
from lbnode.replica_rows import read_server
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
    """What the endpoints need of whoever changes the cluster (lbnode.controller)."""

    def init(self, request: InitRequest) -> Awaitable[None]:
        """Make the table that is asked for; returns once it serves, raises ApiError if it was not made."""

    def add(self, request: AddRequest) -> Awaitable[tuple[int, Sequence[str]]]:
        """Add servers and shards; returns how many servers there are then, and the names of the new ones."""

    def remove(self, request: RemoveRequest) -> Awaitable[tuple[int, Sequence[str]]]:
        """Remove servers; returns how many are left, and the names of those that went."""

    def state(self) -> Awaitable[ClusterState]:
        """Return the cluster as it is now."""


class BalancerApp:
    """The endpoints, over a controller and a router. `direct` has the hot ones, by method and path."""

    app = Klein()
    errors_as_json(app)

    def __init__(
        self, controller: Controller, router: Router, data: DataRequests, metrics: Metrics, limits: InitLimits
    ) -> None:
        self._controller = controller
        self._router = router
        self._metrics = metrics
        self._limits = limits
        self._read_rows = metrics.measured("read", data.read)
        self._write_rows = metrics.measured("write", data.write)
        self._update_row = metrics.measured("update", data.update)
        self._delete_row = metrics.measured("del", data.delete)
        self.direct: Mapping[tuple[bytes, bytes], Endpoint] = {
            (b"POST", b"/read"): self._read_rows,
            (b"POST", b"/write"): self._write_rows,
            (b"PUT", b"/update"): self._update_row,
            (b"DELETE", b"/del"): self._delete_row,
        }

    # ---- routes -------------------------------------------------------------------------------------------------

    @app.route("/read", methods=["GET", "POST"])
    def _read(self, request: Request) -> Deferred[None] | None:
        return answer(request, self._read_rows)

    @app.route("/write", methods=["POST"])
    def _write(self, request: Request) -> Deferred[None] | None:
        return answer(request, self._write_rows)

    @app.route("/update", methods=["PUT"])
    def _update(self, request: Request) -> Deferred[None] | None:
        return answer(request, self._update_row)

    @app.route("/del", methods=["DELETE"])
    def _del(self, request: Request) -> Deferred[None] | None:
        return answer(request, self._delete_row)

    @app.route("/read/<server>", methods=["GET"])
    def _read_server(self, request: Request, server: str) -> Deferred[None] | None:
        async def read(headers: Headers, body: bytes) -> Answer:
            return await read_server(self._router, server)

        return self._answer(request, "read_server", read)

    @app.route("/init", methods=["POST"])
    def _init(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "init", self.init)

    @app.route("/add", methods=["POST"])
    def _add(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "add", self.add)

    @app.route("/rm", methods=["DELETE", "POST"])
    def _rm(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "rm", self.remove)

    @app.route("/status", methods=["GET"])
    def _status(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "status", self.status)

    @app.route("/primary_elect", methods=["GET"])
    def _primary_elect(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "primary_elect", self.primary_elect)

    @app.route("/rep", methods=["GET"])
    def _rep(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "rep", self.rep)

    @app.route("/healthz", methods=["GET"])
    def _healthz(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "healthz", self.healthz)

    @app.route("/readyz", methods=["GET"])
    def _readyz(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "readyz", self.readyz)

    @app.route("/metrics", methods=["GET"])
    def _metrics_text(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "metrics", self.metrics)

    def _answer(self, request: Request, name: str, endpoint: Endpoint) -> Deferred[None] | None:
        return answer(request, self._metrics.measured(name, endpoint))

    # ---- endpoints ----------------------------------------------------------------------------------------------

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

    def healthz(self, headers: Headers, body: bytes) -> Response:
        """Say that the process is alive."""
        return json_response({"status": "success"})

    async def readyz(self, headers: Headers, body: bytes) -> Response:
        """Say whether every shard can serve."""
        return json_response(overview.readiness(await self._controller.state()))

    def metrics(self, headers: Headers, body: bytes) -> Response:
        """Return the figures in Prometheus' text format."""
        return Response(200, self._metrics.text(), ((b"Content-Type", self._metrics.content_type),))
