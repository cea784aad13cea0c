"""The clusters that experiments ask for; their shards are large, so that no experiment runs out of ids."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workloads import A_1, A_2, A_3, Shard, Workload

#: Ids of a shard, a power of two: so is their number over 1, 2, 4 … shards.
SHARD_SIZE = 1 << 21


def large_a_1(shard_size: int = SHARD_SIZE) -> Workload:
    """Return A-1's six servers and its placement, with larger shards."""
    return replace(A_1, name="A-1 large", shards=_shards(len(A_1.shards), shard_size))


def large_a_2() -> Workload:
    """Return A-2's seven servers, each with all four shards."""
    return replace(A_2, name="A-2 large", shards=_shards(len(A_2.shards), SHARD_SIZE))


def large_a_3() -> Workload:
    """Return as many servers, shards and replicas as A-3 has in the end, made at once."""
    return replace(spread(len(A_3.servers), len(A_3.shards), A_3.replicas or 0), name="A-3 large")


def spread(servers: int, shards: int, replicas: int, shard_size: int = SHARD_SIZE) -> Workload:
    """Return so many replicas of each shard, dealt to the servers in turn. `replicas` is at most `servers`."""
    if replicas > servers:
        raise ValueError(f"{replicas} replicas do not fit on {servers} servers")
    table = _shards(shards, shard_size)
    held: dict[str, list[str]] = {f"Server{number}": [] for number in range(servers)}
    for number, shard in enumerate(table):
        for copy in range(replicas):
            held[f"Server{(number * replicas + copy) % servers}"].append(shard.name)
    return Workload(
        name=f"{servers}x{shards}x{replicas}",
        about=f"{servers} servers, {shards} shards, {replicas} replicas",
        shards=table,
        servers={name: tuple(names) for name, names in held.items()},
        replicas=replicas,
    )


def _shards(count: int, size: int) -> tuple[Shard, ...]:
    return tuple(Shard(f"sh{number + 1}", number * size, size) for number in range(count))
