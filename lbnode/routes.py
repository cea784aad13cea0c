"""Which shard an id belongs to: the table as the four data requests see it, a value that is replaced as a whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from dbnode.client import ReadBatches, ReadTours, ShardSession
from dbnode.errors import ApiError
from dbnode.schema import Schema
from dbnode.wire import Row
from lbnode.layout import ShardLayout
from lbnode.refusals import some_ids
from lbnode.ring import Ring


class Route:
    """The way to one shard: its session for changes, its ring and its batches (by consistency) for reads.

    Small linearizable reads go through `tours` instead, where the shard shares them with others.
    """

    __slots__ = ("batches", "group_id", "high", "low", "name_json", "ring", "servers", "session", "shard", "tours")

    def __init__(
        self, layout: ShardLayout, ring: Ring, session: ShardSession, batches: Mapping[int, ReadBatches]
    ) -> None:
        self.shard = layout.shard
        self.name_json = msgspec.json.encode(layout.shard)
        self.group_id = layout.group_id
        self.low = layout.low
        self.high = layout.high
        self.servers = tuple(layout.replicas.values())
        self.ring = ring
        self.session = session
        self.batches = batches
        self.tours: ReadTours | None = None


class Routes:
    """All shards of a table in order of their ids, and its schema."""

    def __init__(self, schema: Schema, routes: Iterable[Route], servers: Iterable[str]) -> None:
        self.schema = schema
        self.servers = frozenset(servers)
        self._routes = sorted(routes, key=lambda route: route.low)
        self._lows = [route.low for route in self._routes]

    def __iter__(self) -> Iterator[Route]:
        """Go through all shards in order of their ids."""
        return iter(self._routes)

    def find(self, key: int) -> Route | None:
        """Return the way to the shard that an id belongs to, None if it belongs to none."""
        place = bisect_right(self._lows, key)
        if place:
            route = self._routes[place - 1]
            if key <= route.high:
                return route
        return None

    def find_row(self, key: int) -> Route:
        """Return the way to the shard of a row that must be there; raises ApiError `no_shard` (404)."""
        route = self.find(key)
        if route is None:
            raise ApiError("no_shard", f"{self._says(key)}; it cannot exist", status=404, applied="no")
        return route

    def split(self, rows: Sequence[Row]) -> list[tuple[Route, tuple[Row, ...]]]:
        """Return the rows of each shard, in the order of the request; raises ApiError `no_shard` (400) with all ids."""
        parts: dict[Route, list[Row]] = {}
        strays: list[int] = []
        for row in rows:
            route = self.find(row[0])
            if route is None:
                strays.append(row[0])
            elif route in parts:
                parts[route].append(row)
            else:
                parts[route] = [row]
        if strays:
            raise ApiError("no_shard", self._says(*strays), applied="no", extra={"ids": strays})
        return [(route, tuple(part)) for route, part in parts.items()]

    def overlapping(self, low: int, high: int) -> list[Route]:
        """Return the shards that have ids in low..high, both inclusive."""
        first = max(0, bisect_right(self._lows, low) - 1)
        found = self._routes[first : bisect_right(self._lows, high)]
        return found[1:] if found and found[0].high < low else found

    def _says(self, *ids: int) -> str:
        if not self._routes:
            return f"{self.schema.key} {some_ids(ids)} belongs to no shard: there are none"
        whole = f"{self._routes[0].low} to {self._routes[-1].high}"
        return f"{self.schema.key} {some_ids(ids)} belongs to no shard; the shards lie within {whole}"
