"""Changes and reads that come to a server itself by HTTP, for a shard that it holds.

They take the way that a balancer's take: a change goes through a session of this server to whoever leads the shard, a
read is answered by the replica that is here. So nothing is applied twice, and nothing is forwarded in circles.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from dbnode.client import NotApplied, RequestFailed, ShardSession
from dbnode.client.requests import Asker
from dbnode.errors import ApiError
from dbnode.host import Host
from dbnode.schema import Schema
from dbnode.serving import Serving
from dbnode.wire import OVERLOADED, TOO_LARGE, GroupConfig, Operation, Read, Refused, Result, Rows

#: Rows are fetched and written in pages of about this size.
PAGE_BYTES = 1 << 20


class Direct:
    """The shards of this server as its own HTTP application uses them.

    `client_name` is unique among all clients there ever were; `timeout_seconds` bounds each change and each page read.
    """

    def __init__(
        self,
        clock: IReactorTime,
        requests: Asker,
        rng: random.Random,
        host: Host,
        serving: Serving,
        *,
        client_name: str,
        timeout_seconds: float,
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._rng = rng
        self._host = host
        self._serving = serving
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._sessions: dict[int, ShardSession] = {}

    def table(self) -> Schema:
        """Return the table's schema; ApiError `not_configured` before there is one."""
        if self._host.schema is None:
            raise ApiError("not_configured", "this server has no shards yet; POST /config first", status=409)
        return self._host.schema

    def group(self, shard: Any) -> GroupConfig:
        """Return the group of a shard that is here; ApiError `no_shard` names those that are."""
        self.table()
        groups = self._host.groups
        if not isinstance(shard, str) or shard not in groups:
            held = ", ".join(groups) or "none"
            raise ApiError("no_shard", f"shard {shard!r} is not on this server; it has {held}", status=404)
        return groups[shard]

    async def change(self, group: GroupConfig, operation: Operation) -> Result:
        """Apply one operation exactly once; ApiError 503 says that it was not applied, 504 that it is unknown."""
        session = self._session(group)
        try:
            return await session.submit(operation, self._timeout_seconds)
        except RequestFailed as error:
            raise _not_done(group.shard, error) from error

    async def page(self, group: GroupConfig, low: int, high: int, consistency: int) -> Rows:
        """Return the first page of the rows low..high, from the replica here; ApiError 503 if it can't answer."""
        timeout_ms = int(self._timeout_seconds * 1000)
        item = Read(0, group.group_id, low, high, 0, PAGE_BYTES, consistency, timeout_ms)
        rows = await self._serving.read(item)
        if isinstance(rows, Refused):
            text = f"shard {group.shard}: {rows.message}"
            raise ApiError("unavailable", text, status=503, retry_after_seconds=1)
        return rows

    async def pages(self, group: GroupConfig, low: int, high: int, consistency: int) -> AsyncIterator[bytes]:
        """Yield the rows low..high as JSON objects joined by commas, page by page."""
        start: int | None = low
        while start is not None:
            rows = await self.page(group, start, high, consistency)
            if rows.data:
                yield rows.data
            start = rows.next

    def stop(self) -> None:
        """Give up what waits (the process ends)."""
        for session in self._sessions.values():
            session.stop()

    def _session(self, group: GroupConfig) -> ShardSession:
        servers = self._servers(group)
        session = self._sessions.get(group.group_id)
        if session is None:
            session = self._sessions[group.group_id] = ShardSession(
                self._clock,
                self._requests,
                self._rng,
                group_id=group.group_id,
                client_name=self._client_name,
                servers=servers,
            )
        else:
            session.set_servers(servers)
        return session

    def _servers(self, group: GroupConfig) -> Sequence[str]:
        """Return the servers that may lead, this one first: it can say who does without a connection."""
        own = self._host.identity.name
        return [own, *(server for server in group.replicas.values() if server != own)]


def _not_done(shard: str, error: RequestFailed) -> ApiError:
    text = f"shard {shard}: {error.text}"
    if isinstance(error, NotApplied):
        if error.code == TOO_LARGE:
            return ApiError("too_large", f"{text}; send it in parts", status=413, applied="no")
        code = "overloaded" if error.code == OVERLOADED else "unavailable"
        return ApiError(code, text, status=503, applied="no", retry_after_seconds=1)
    return ApiError("outcome_unknown", f"{text}; it may or may not be applied", status=504, applied="unknown")
