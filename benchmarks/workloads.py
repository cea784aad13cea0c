"""The workloads: which cluster they ask for, and which rows they write and read.

A-1 to A-3 are those of the course: 10,000 writes of one row each, then 10,000 reads of one id each, over shards of
4,096 ids. Ids are distinct, in range and shuffled; the same seed gives the same requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the course's table, by its column names."""

    Stud_id: int
    Stud_name: str
    Stud_marks: int


@dataclass(frozen=True, slots=True)
class Shard:
    """The ids low .. low + size - 1."""

    name: str
    low: int
    size: int

    def ids(self) -> range:
        """Return the ids of the shard."""
        return range(self.low, self.low + self.size)


@dataclass(frozen=True, slots=True)
class Workload:
    """A cluster's layout: shards, and for each server those of which it holds a replica.

    One that is `grown` comes out of another by one /add, whose new servers name no shards: the balancer raises every
    shard to `replicas` copies and places them as it likes. `replicas` of another one are those that /init is told, 0
    for the default. The first of the columns is the key.
    """

    name: str
    about: str
    shards: tuple[Shard, ...]
    servers: dict[str, tuple[str, ...]]
    grown: Workload | None = None
    replicas: int = 0
    columns: tuple[str, ...] = ("Stud_id", "Stud_name", "Stud_marks")

    def init_request(self) -> dict[str, Any]:
        """Return the body of POST /init that makes this cluster, or the one that it grows from."""
        if self.grown is not None:
            return self.grown.init_request()
        return {
            "N": len(self.servers),
            "schema": {"columns": self.columns, "dtypes": ["Number", *["String"] * (len(self.columns) - 1)]},
            "shards": _described(self.shards),
            "servers": self.servers,
            **({"replicas": self.replicas} if self.replicas else {}),
        }

    def add_request(self) -> dict[str, Any] | None:
        """Return the body of POST /add that lets it grow, None for a cluster that /init makes as a whole."""
        if self.grown is None:
            return None
        new = {name: shards for name, shards in self.servers.items() if name not in self.grown.servers}
        shards = [shard for shard in self.shards if shard not in self.grown.shards]
        return {"n": len(new), "new_shards": _described(shards), "servers": new, "replicas": self.replicas}

    def capacity(self) -> int:
        """Return how many ids there are."""
        return sum(shard.size for shard in self.shards)

    def shard_of(self, row_id: int) -> str:
        """Return the shard that holds an id of the workload."""
        return next(shard.name for shard in self.shards if row_id in shard.ids())


def _described(shards: Iterable[Shard]) -> list[dict[str, Any]]:
    return [{"Stud_id_low": one.low, "Shard_id": one.name, "Shard_size": one.size} for one in shards]


_SIX_SHARDS = tuple(Shard(f"sh{number + 1}", number * 4096, 4096) for number in range(6))
_FOUR_SHARDS = _SIX_SHARDS[:4]

A_1 = Workload(
    name="A-1",
    about="6 servers, 4 shards, 3 replicas",
    shards=_FOUR_SHARDS,
    servers={
        "Server0": ("sh1", "sh2"),
        "Server1": ("sh3", "sh4"),
        "Server3": ("sh1", "sh3"),
        "Server4": ("sh4", "sh2"),
        "Server5": ("sh1", "sh4"),
        "Server6": ("sh3", "sh2"),
    },
)
A_2 = Workload(
    name="A-2",
    about="7 servers, 4 shards, 7 replicas",
    shards=_FOUR_SHARDS,
    servers={f"Server{number}": ("sh1", "sh2", "sh3", "sh4") for number in range(7)},
)
A_3 = Workload(
    name="A-3",
    about="A-1 grown to 10 servers, 6 shards, 8 replicas",
    shards=_SIX_SHARDS,
    servers={**A_1.servers, **{f"Server{number}": () for number in (7, 8, 9, 10)}},
    grown=A_1,
    replicas=8,
)
WORKLOADS = {workload.name: workload for workload in (A_1, A_2, A_3)}


class LayoutError(Exception):
    """The caller's mistake: the cluster is not the one that the workload asks for."""


def check_layout(status: Mapping[str, Any], workload: Workload) -> None:
    """Check that the body of /status shows the workload's shards, servers and columns. Raises LayoutError."""
    if not status["shards"]:
        raise LayoutError("the balancer holds no table yet: POST /init first, or let the bench --spawn a cluster")
    wanted = _described(workload.shards)
    shards = [{name: shard.get(name) for name in wanted[0]} for shard in status["shards"]]
    found = {
        "columns": tuple(status["schema"]["columns"]) == workload.columns,
        "shards": sorted(map(repr, shards)) == sorted(map(repr, wanted)),
        "servers": _same_servers(status["servers"], workload),
    }
    if different := [name for name, same in found.items() if not same]:
        raise LayoutError(
            f"the table is not that of {workload.name} ({workload.about}): other {', '.join(different)}; "
            "give another workload, or let the bench --spawn a cluster"
        )


def _same_servers(found: Mapping[str, Sequence[str]], workload: Workload) -> bool:
    if workload.grown is None:
        return sorted(map(sorted, found.values())) == sorted(map(sorted, workload.servers.values()))
    copies = Counter(shard for held in found.values() for shard in held)
    return len(found) == len(workload.servers) and set(copies.values()) == {workload.replicas}


class TableFullError(Exception):
    """The caller's mistake: fewer ids are free than rows are to be written."""


def draw_records(workload: Workload, rows: int, width: int, rng: Random, taken: Collection[int] = ()) -> list[Record]:
    """Return `rows` records with distinct ids that are not taken, names of `width` bytes, in random order.

    Raises TableFullError.
    """
    free = [row_id for shard in workload.shards for row_id in shard.ids() if row_id not in taken]
    if rows > len(free):
        raise TableFullError(
            f"{workload.name} has {workload.capacity()} ids, of which {len(free)} are free: "
            f"{rows} rows do not fit; give a smaller --rows, or --spawn for a cluster of its own"
        )
    return make_records(rng.sample(free, rows), width, rng)


def make_records(row_ids: Iterable[int], width: int, rng: Random) -> list[Record]:
    """Return a record for each id, with names of `width` bytes."""
    return [Record(row_id, rng.randbytes((width + 1) // 2).hex()[:width], rng.randint(0, 100)) for row_id in row_ids]


def write_requests(records: Sequence[Record], host: str) -> list[bytes]:
    """Return a POST /write of one row for each record."""
    return [http_request("POST", "/write", host, {"data": [record]}) for record in records]


def read_requests(records: Sequence[Record], host: str) -> list[bytes]:
    """Return a POST /read of one id for each record."""
    return [
        http_request("POST", "/read", host, {"Stud_id": {"low": record.Stud_id, "high": record.Stud_id}})
        for record in records
    ]


def delete_requests(records: Sequence[Record], host: str) -> list[bytes]:
    """Return a DELETE /del for each record."""
    return [http_request("DELETE", "/del", host, {"Stud_id": record.Stud_id}) for record in records]


def http_request(method: str, path: str, host: str, body: object = None) -> bytes:
    """Return a whole HTTP/1.1 request; `body` becomes JSON unless it is None."""
    content = b"" if body is None else msgspec.json.encode(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode("ascii") + content
