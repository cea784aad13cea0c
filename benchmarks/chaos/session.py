"""Where a chaos takes place: at a cluster made for it, or at a running one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.chaos.keys import Keys
from benchmarks.chaos.places import Places
from benchmarks.chaos.report import Options, Report
from benchmarks.chaos.run import Chaos
from benchmarks.chaos.site import Server, Site
from benchmarks.chaos.view import View
from benchmarks.company_cluster import CompanyCluster
from benchmarks.container_cluster import ContainerCluster
from benchmarks.door import Door, host_and_port
from benchmarks.process import to_the_end
from benchmarks.spawn import Cluster, servers_below
from benchmarks.workloads import A_1, Shard
from raftlog.testing.namespaces import NamespacesUnavailable

#: The servers of A-1, with shards that no chaos fills.
_TABLE = replace(A_1, shards=tuple(Shard(shard.name, place << 20, 1 << 20) for place, shard in enumerate(A_1.shards)))


async def hold_chaos(
    reactor: Any, clock: Callable[[], float], options: Options, view: View
) -> tuple[Report, Path | None]:
    """Do what the options ask for; return the report and what was kept: data and logs if something is wrong."""
    if options.url is not None and options.data_dir is not None:
        site = Site(
            reactor, Door(reactor, *host_and_port(options.url)), partial(servers_below, Path(options.data_dir)), None
        )
        return await Chaos(reactor, clock, options, view, site, await _keys(site.door)).run(), None
    directory = Path(mkdtemp(prefix="shardlb-chaos-", dir=options.directory))
    keep = options.keep
    try:
        async with _spawned(reactor, directory, options, view) as site:
            report = await Chaos(reactor, clock, options, view, site, Keys(_TABLE.shards)).run()
        keep = keep or not report.good
        return report, directory if keep else None
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def _spawned(reactor: Any, directory: Path, options: Options, view: View) -> AsyncIterator[Site]:
    with _places(directory / "places", options.containers, view) as places:
        cluster, look = _cluster(reactor, directory, options, places)
        doors = cluster.doors if isinstance(cluster, CompanyCluster) else ()
        try:
            await cluster.start(_TABLE)
            yield Site(reactor, cluster.door, look, cluster, places, doors)
        finally:
            await to_the_end(cluster.stop())


@contextmanager
def _places(directory: Path, image: str | None, view: View) -> Iterator[Places | None]:
    """Yield places where servers can be cut off, None where they cannot be had."""
    if image is not None:
        yield None
        return
    places = Places(directory)
    try:
        places.open()
    except NamespacesUnavailable as reason:
        view.say(f"no server is cut off: {reason}")
        yield None
        return
    try:
        yield places
    finally:
        places.close()


def _cluster(
    reactor: Any, directory: Path, options: Options, places: Places | None
) -> tuple[Cluster, Callable[[], Iterable[Server]]]:
    """Return a cluster, with servers in containers of an image or in places if there are any, and what finds them."""
    if options.containers is None:
        arguments = ["--server-wrapper", places.wrapper] if places is not None else []
        cluster = (
            Cluster(reactor, directory, arguments)
            if options.balancers == 1
            else CompanyCluster(reactor, directory, options.balancers, arguments)
        )
        return cluster, cluster.servers
    contained = ContainerCluster(reactor, directory, options.containers)
    return contained, contained.containers


async def _keys(door: Door) -> Keys:
    """Return the ids of a running cluster that are free. Its rows stay as they are."""
    status = await door.json("GET", "/status")
    shards = [Shard(shard["Shard_id"], shard["Stud_id_low"], shard["Shard_size"]) for shard in status["shards"]]
    bounds = {"low": min(shard.low for shard in shards), "high": max(shard.ids()[-1] for shard in shards)}
    answer = await door.json("POST", "/read", {"Stud_id": bounds})
    return Keys(shards, [row["Stud_id"] for row in answer["data"]])
