"""Rows stored while they come: POST /write with a body of lines, of any length, in bounded memory.

Rows are gathered by shard; whenever enough of a shard's are there they go on their way as one change, which is atomic
as in any other /write. What is on its way is bounded: beyond that the client is read no further. After the first
failure nothing more is begun, what is on its way is waited for, and the answer says how much is stored. Sending the
same lines again with `On-Conflict: ignore` stores the rest. Several changes of one shard are on their way at once, and
over a change of its leader they may be applied in another order: of an id that stands twice in one body with
`On-Conflict: replace` either row may remain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred

from dbnode.client import RequestFailed
from dbnode.errors import ApiError
from dbnode.jsonhttp import Headers, Response
from dbnode.wire import Row, Stored, Write
from lbnode import wire
from lbnode.concurrent import in_background
from lbnode.outcomes import Outcome, part_failed
from lbnode.router import Router
from lbnode.routes import Route
from lbnode.wire.lines import RowLines

#: Rows of one shard that travel together, if they are not many bytes. More are hardly faster, and hold others up.
ROWS_TOGETHER = 1000
BYTES_TOGETHER = 256 << 10
#: Rows and bytes that are gathered or on their way before the client is read no further.
ROWS_AHEAD_MAX = 16 * ROWS_TOGETHER
BYTES_AHEAD_MAX = 8 << 20


def store_lines(router: Router, headers: Headers, pieces: AsyncIterator[bytes]) -> Deferred[Response]:
    """Store the rows of a body that comes in pieces; returns the answer of POST /write.

    Raises ApiError if the headers or the state of the table rule it out, and fails with one as any /write does, which
    names the line where there is one, and has `rows_stored`: rows that certainly are stored. What `pieces` raises comes
    out too, once nothing is on its way any more.
    """
    return Deferred.fromCoroutine(_store(_Load(router, wire.on_conflict_of(headers)), pieces))


async def _store(load: _Load, pieces: AsyncIterator[bytes]) -> Response:
    lines = RowLines(load.schema)
    try:
        async for piece in pieces:
            rows = lines.rows(piece)
            load.take(rows, lines.size_bytes)
            await load.room()
            if load.error is not None:
                break
        else:
            rows = lines.last()
            load.take(rows, lines.size_bytes)
            load.send_all()
    except ApiError as error:
        load.fail(error)
    finally:
        await load.settled()
    if load.error is not None:
        raise load.told()
    return Response(200, wire.rows_added(load.stored))


class _Part:
    """Rows of one shard that wait to become a change."""

    __slots__ = ("route", "rows", "size_bytes")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.rows: list[Row] = []
        self.size_bytes = 0


class _Load:
    """What of one body is gathered, on its way and stored. `error` is what the client is to be told, if any."""

    def __init__(self, router: Router, on_conflict: int) -> None:
        self._router = router
        self.schema = router.routes().schema
        self._on_conflict = on_conflict
        self._parts: dict[int, _Part] = {}
        self._rows_ahead = 0
        self._bytes_ahead = 0
        self._under_way = 0
        self._waiting: Deferred[None] | None = None
        self.stored = 0
        self.error: ApiError | None = None

    def take(self, rows: list[Row], size_bytes: int) -> None:
        """Gather rows, which are so many bytes together, and send what is enough; raises ApiError `no_shard`."""
        if not rows:
            return
        routes = self._router.routes()
        if routes.schema != self.schema:
            raise ApiError("already_initialised", "the table was replaced while its rows came", status=409)
        each_bytes = size_bytes // len(rows)
        self._rows_ahead += len(rows)
        self._bytes_ahead += each_bytes * len(rows)
        for route, of_shard in routes.split(rows):
            part = self._parts.setdefault(route.group_id, _Part(route))
            part.rows += of_shard
            part.size_bytes += each_bytes * len(of_shard)
            if len(part.rows) >= ROWS_TOGETHER or part.size_bytes >= BYTES_TOGETHER:
                self._send(self._parts.pop(route.group_id))

    def send_all(self) -> None:
        """Send what is gathered, however little it is."""
        while self._parts and self.error is None:
            self._send(self._parts.popitem()[1])

    async def room(self) -> None:
        """Wait until more may be taken."""
        if self._rows_ahead > ROWS_AHEAD_MAX or self._bytes_ahead > BYTES_AHEAD_MAX:
            self.send_all()
        while self.error is None and (self._rows_ahead > ROWS_AHEAD_MAX or self._bytes_ahead > BYTES_AHEAD_MAX):
            await self._next_outcome()

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        while self._under_way:
            await self._next_outcome()

    def told(self) -> ApiError:
        """Return the error with what is known of the rows that came before it."""
        assert self.error is not None
        if self.error.applied != "unknown":
            self.error.applied = "partial" if self.stored else "no"
        self.error.text += f"; {self.stored} rows are stored"
        self.error.extra["rows_stored"] = self.stored
        return self.error

    def fail(self, error: ApiError) -> None:
        """Begin nothing more. Of several errors the worst is told: an unknown outcome before any other."""
        if self.error is None or _badness(error) > _badness(self.error):
            self.error = error

    def _send(self, part: _Part) -> None:
        self._under_way += 1
        _ = in_background(self._store(part), "storing rows that came as lines")

    async def _store(self, part: _Part) -> None:
        try:
            self._note(part, await self._outcome(part))
        except Exception:
            text = "storing failed here; the log has the details"
            self.fail(ApiError("internal_error", text, status=500, applied="unknown"))
            raise
        finally:
            self._under_way -= 1
            self._rows_ahead -= len(part.rows)
            self._bytes_ahead -= part.size_bytes
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.callback(None)

    async def _outcome(self, part: _Part) -> Outcome:
        try:
            return await self._router.change(part.route, Write(tuple(part.rows), self._on_conflict))
        except RequestFailed as error:
            return error

    def _note(self, part: _Part, outcome: Outcome) -> None:
        if isinstance(outcome, Stored):
            self.stored += outcome.count
        elif (failure := part_failed(self.schema, part.route.shard, outcome)) is not None:
            self.fail(failure)

    def _next_outcome(self) -> Deferred[None]:
        self._waiting = Deferred()
        return self._waiting


def _badness(error: ApiError) -> tuple[bool, int]:
    return error.applied == "unknown", error.status
