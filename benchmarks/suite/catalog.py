"""All experiments by name: what they are about, their own options, and what runs them."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.command import positive
from benchmarks.suite.bulk import BATCHES, LINES, Size, bulk
from benchmarks.suite.context import Context
from benchmarks.suite.curves import batches, concurrency, consistency, layouts, replicas, shards, single, widths
from benchmarks.suite.document import Point
from benchmarks.suite.latency import latency
from benchmarks.suite.storage import storage
from benchmarks.suite.subjects import PEERS, POSTGRES
from benchmarks.suite.versus import versus_etcd
from benchmarks.suite.ycsb import WORKLOADS as YCSB_WORKLOADS
from benchmarks.suite.ycsb import ycsb

Add: TypeAlias = Callable[[argparse.ArgumentParser], None]
Run: TypeAlias = Callable[[Context, argparse.Namespace], Awaitable[list[Point]]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment. `peers` are those that --peer may name; `defaults` differ from those of the common options."""

    name: str
    title: str
    x_name: str
    run: Run
    add_options: Add = lambda parser: None
    peers: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)


def numbers(text: str) -> tuple[int, ...]:
    """Return whole numbers from 1 on, given with commas between; for argparse."""
    return tuple(positive(part) for part in text.split(","))


def letters(text: str) -> tuple[str, ...]:
    """Return names of YCSB workloads, given with commas between; for argparse."""
    found = tuple(text.upper().split(","))
    if unknown := [letter for letter in found if letter not in YCSB_WORKLOADS]:
        raise argparse.ArgumentTypeError(f"there is no workload {unknown[0]}, only {', '.join(YCSB_WORKLOADS)}")
    return found


def _numbers_option(name: str, default: tuple[int, ...], about: str) -> Add:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(name, type=numbers, default=default, metavar="N,N,…", help=about)

    return add


def _connections_option(parser: argparse.ArgumentParser, default: int = 100) -> None:
    parser.add_argument("--connections", type=positive, default=default, help="keep-alive connections")


def _batch_options(parser: argparse.ArgumentParser) -> None:
    _numbers_option("--sizes", (1, 10, 100, 1_000, 10_000), "rows per /write")(parser)
    _connections_option(parser, 16)


def _width_options(parser: argparse.ArgumentParser) -> None:
    _numbers_option("--widths", (16, 128, 1_024, 8_192, 65_536), "bytes of a name")(parser)
    _connections_option(parser, 32)


def _replica_options(parser: argparse.ArgumentParser) -> None:
    _numbers_option("--replicas", (1, 3, 5, 7), "replicas of each shard, at most 7")(parser)
    _connections_option(parser)


def _shard_options(parser: argparse.ArgumentParser) -> None:
    _numbers_option("--shards", (1, 2, 4, 8, 16), "numbers of shards")(parser)
    _connections_option(parser)


def _ycsb_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workloads", type=letters, default=tuple(YCSB_WORKLOADS), metavar="A,B,…", help="which of A to F"
    )
    parser.add_argument("--records", type=positive, default=10_000, help="records loaded first")
    _connections_option(parser, 32)


def _latency_options(parser: argparse.ArgumentParser) -> None:
    about = "parts of the peak rate, which a closed loop of --seconds finds first"
    parser.add_argument("--shares", type=_shares, default=(0.25, 0.5, 0.75), metavar="S,S,…", help=about)
    _numbers_option("--rates", (), "operations per second, besides or instead of shares")(parser)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds at each rate")
    _connections_option(parser, 256)


def _shares(text: str) -> tuple[float, ...]:
    """Return numbers above 0, given with commas between, or none at all; for argparse."""
    found = tuple(float(part) for part in text.split(",") if part)
    if any(share <= 0 for share in found):
        raise argparse.ArgumentTypeError(f"{text}: a share is above 0")
    return found


def _bulk_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=positive, default=10_000, help="rows per /write")
    parser.add_argument("--servers", type=positive, default=3, help="servers; each shard has 3 replicas")
    parser.add_argument("--shards", type=positive, default=4, help="shards")
    parser.add_argument("--by", choices=(BATCHES, LINES, "both"), default="both", help="the way in and out")
    _connections_option(parser, 4)


async def _bulk(context: Context, given: argparse.Namespace) -> list[Point]:
    ways = (BATCHES, LINES) if given.by == "both" else (given.by,)
    size = Size(context.common.rows, given.batch, given.connections, given.servers, given.shards, ways)
    return await bulk(context, size)


def _versus_options(parser: argparse.ArgumentParser) -> None:
    _numbers_option("--connections", (32, 128), "connections of wrk, in turn")(parser)
    parser.add_argument("--rate-max", type=positive, default=20_000, help="writes per second that there are rows for")


_ALL = (
    Experiment(
        name="versus-etcd",
        title="A-1's six servers and etcd's three members in turn, wrk as client",
        x_name="connections",
        run=lambda context, given: versus_etcd(context, given.connections, given.rate_max),
        add_options=_versus_options,
        defaults={"runs": 5, "seconds": 6.0},
    ),
    Experiment(
        name="concurrency",
        title="Rate and latency over connections: single rows, A-1's six servers, 3 replicas",
        x_name="connections",
        run=lambda context, given: concurrency(context, given.connections),
        add_options=_numbers_option("--connections", (1, 2, 4, 8, 16, 32, 64, 128, 256), "numbers of connections"),
        peers=PEERS,
    ),
    Experiment(
        name="single",
        title="One client, one row at a time, six servers otherwise idle",
        x_name="connections",
        run=lambda context, given: single(context),
        peers=PEERS,
        defaults={"runs": 5},
    ),
    Experiment(
        name="batch",
        title="Rows per /write; rows anywhere in four shards, six servers, 3 replicas",
        x_name="rows per write",
        run=lambda context, given: batches(context, given.sizes, given.connections),
        add_options=_batch_options,
        defaults={"rows": 200_000},
    ),
    Experiment(
        name="values",
        title="Bytes of a row's name; single rows, six servers, 3 replicas",
        x_name="bytes",
        run=lambda context, given: widths(context, given.widths, given.connections),
        add_options=_width_options,
        peers=PEERS,
    ),
    Experiment(
        name="layouts",
        title="A-1, A-2 and A-3 in turn; single rows",
        x_name="layout",
        run=lambda context, given: layouts(context, given.connections),
        add_options=_connections_option,
        # Ratios are what counts here: of phases of a second and a half they scatter by ten points either way.
        defaults={"runs": 5, "rows": 60_000, "seconds": 20.0},
    ),
    Experiment(
        name="replicas",
        title="Replicas of each of four shards on seven servers; single rows",
        x_name="replicas",
        run=lambda context, given: replicas(context, given.replicas, given.connections),
        add_options=_replica_options,
    ),
    Experiment(
        name="shards",
        title="Shards on six servers with 3 replicas of each; single rows",
        x_name="shards",
        run=lambda context, given: shards(context, given.shards, given.connections),
        add_options=_shard_options,
    ),
    Experiment(
        name="ycsb",
        title="YCSB A to F: records of 1 kB, zipfian 0.99, six servers, 3 replicas",
        x_name="workload",
        run=lambda context, given: ycsb(context, given.workloads, given.records, given.connections),
        add_options=_ycsb_options,
        defaults={"rows": 100_000, "seconds": 10.0},
    ),
    Experiment(
        name="latency",
        title="Open-loop latency at fixed rates: half inserts, half reads, six servers, 3 replicas",
        x_name="rate",
        run=lambda context, given: latency(context, given.shares, given.rates, given.duration, given.connections),
        add_options=_latency_options,
        defaults={"seconds": 10.0},
    ),
    Experiment(
        name="bulk",
        title="A million rows in and out on three replicas, and COPY into one PostgreSQL",
        x_name="transactions",
        run=_bulk,
        add_options=_bulk_options,
        peers=(POSTGRES,),
        defaults={"rows": 1_000_000, "deadline_seconds": 120.0},
    ),
    Experiment(
        name="storage",
        title="One PostgreSQL by pgbench, single rows: the limit of storage",
        x_name="connections",
        run=lambda context, given: storage(context, given.connections),
        add_options=_numbers_option("--connections", (1, 8, 32, 128), "clients of pgbench"),
    ),
    Experiment(
        name="consistency",
        title="Linearizable and stale reads; single rows, six servers, 3 replicas",
        x_name="consistency",
        run=lambda context, given: consistency(context, given.connections),
        add_options=_connections_option,
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
