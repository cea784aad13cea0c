"""The balancer's HTTP endpoints (HTTP_API, "Balancer"), on Klein.

Data requests are in `hot`, those about the cluster in `cluster`; here is the table of all routes. Every endpoint is a
function of (headers, body), so that the hot ones can be served without Klein, by the lean lane (`direct`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from dbnode.errors import ApiError
from dbnode.jsonhttp import (
    Answer,
    Endpoint,
    Headers,
    Response,
    UploadEndpoint,
    answer,
    errors_as_json,
    json_response,
)
from lbnode.hot import DataRequests
from lbnode.metrics import Metrics
from lbnode.replica_rows import read_server
from lbnode.router import Router


class ClusterEndpoints(Protocol):
    """The requests about the cluster (HTTP_API), by whoever can answer them; lbnode.cluster is the controller's."""

    def init(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Make the table."""

    def add(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Add servers and shards."""

    def remove(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Remove servers."""

    def status(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Tell everything about the cluster."""

    def primary_elect(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Tell who leads each shard."""

    def rep(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Name the servers."""

    def readyz(self, headers: Headers, body: bytes, /) -> Awaitable[Response]:
        """Say whether every shard can serve."""


class BalancerApp:
    """The table of all routes. `direct` has the endpoints of the hot ones, by method and path.

    `catalog` is for followers (lbnode.feed), None where there is none to follow.
    """

    app = Klein()
    errors_as_json(app)

    def __init__(
        self,
        router: Router,
        data: DataRequests,
        cluster: ClusterEndpoints,
        metrics: Metrics,
        catalog: Endpoint | None = None,
    ) -> None:
        self._router = router
        self._cluster = cluster
        self._metrics = metrics
        self._catalog_of = catalog or _nothing_to_follow
        self._read_rows = metrics.measured("read", data.read)
        self._write_rows = metrics.measured("write", data.write)
        self._update_row = metrics.measured("update", data.update)
        self._delete_row = metrics.measured("del", data.delete)
        #: Those whose body is taken while it arrives, if it is lines.
        self.uploads: Mapping[tuple[bytes, bytes], UploadEndpoint] = {
            (b"POST", b"/write"): metrics.measured("write_lines", data.write_lines)
        }
        self.direct: Mapping[tuple[bytes, bytes], Endpoint] = {
            (b"POST", b"/read"): self._read_rows,
            (b"GET", b"/read"): self._read_rows,
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
        return self._answer(request, "init", self._cluster.init)

    @app.route("/add", methods=["POST"])
    def _add(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "add", self._cluster.add)

    @app.route("/rm", methods=["DELETE", "POST"])
    def _rm(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "rm", self._cluster.remove)

    @app.route("/status", methods=["GET"])
    def _status(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "status", self._cluster.status)

    @app.route("/primary_elect", methods=["GET"])
    def _primary_elect(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "primary_elect", self._cluster.primary_elect)

    @app.route("/rep", methods=["GET"])
    def _rep(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "rep", self._cluster.rep)

    @app.route("/healthz", methods=["GET"])
    def _healthz(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "healthz", self.healthz)

    @app.route("/readyz", methods=["GET"])
    def _readyz(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "readyz", self._cluster.readyz)

    @app.route("/metrics", methods=["GET"])
    def _metrics_text(self, request: Request) -> Deferred[None] | None:
        return self._answer(request, "metrics", self.metrics)

    @app.route("/catalog", methods=["POST"])
    def _catalog(self, request: Request) -> Deferred[None] | None:
        # Not among what is measured: these answers wait for news.
        return answer(request, self._catalog_of)

    def _answer(self, request: Request, name: str, endpoint: Endpoint) -> Deferred[None] | None:
        return answer(request, self._metrics.measured(name, endpoint))

    # ---- endpoints ----------------------------------------------------------------------------------------------

    def healthz(self, headers: Headers, body: bytes) -> Response:
        """Say that the process is alive."""
        return json_response({"status": "success"})

    def metrics(self, headers: Headers, body: bytes) -> Response:
        """Return the figures in Prometheus' text format."""
        return Response(200, self._metrics.text(), ((b"Content-Type", self._metrics.content_type),))


def _nothing_to_follow(headers: Headers, body: bytes) -> Response:
    raise ApiError("no_catalog", "this is a follower; follow the balancer that it follows", status=404)
