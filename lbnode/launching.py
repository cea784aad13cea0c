"""The launcher that the options ask for."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dbnode.client.home import Home
from dbnode.wire import Endpoint
from lbnode.launchers import Launcher, LaunchTimes, ServerStorage
from lbnode.launchers.process import ProcessLauncher
from lbnode.options import COURSE_NAMES, BalancerOptions
from lbnode.rebuild import homes_below


def launcher_of(
    reactor: Any,
    options: BalancerOptions,
    directory: Path,
    cluster_id: str,
    secret: bytes,
    heartbeat: Callable[[Endpoint, float], Awaitable[None]],
) -> Launcher:
    """Return the launcher of a cluster's servers; `directory` is for those that are processes of this machine."""
    times = LaunchTimes(start_seconds=options["start-deadline"])
    if options["launcher"] == "docker":
        return _docker(reactor, options, cluster_id, secret, heartbeat, times)
    environment = others_environment(os.environ)
    return ProcessLauncher(
        reactor,
        reactor,
        reactor,
        directory,
        secret,
        heartbeat,
        environment,
        times,
        options["tls-dir"],
        ServerStorage(options["storage"], options["postgres-programs"]),
        options["server-wrapper"],
    )


def _docker(
    reactor: Any,
    options: BalancerOptions,
    cluster_id: str,
    secret: bytes,
    heartbeat: Callable[[Endpoint, float], Awaitable[None]],
    times: LaunchTimes,
) -> Launcher:
    # Whoever has processes needs none of this, and it takes a third of a second to import.
    from lbnode.launchers.docker import THREADS_MAX, DockerLauncher
    from lbnode.launchers.docker_client import connect_to_engine
    from lbnode.launchers.docker_containers import Containers
    from lbnode.launchers.docker_names import DockerSettings
    from lbnode.launchers.docker_network import own_container_id

    settings = DockerSettings(
        image=options["server-image"],
        network=options["network"],
        project=options["project"],
        memory_bytes=options["server-memory"],
        cpus=options["server-cpus"],
        tls_dir=str(options["tls-dir"] or ""),
        storage=options["storage"],
    )
    containers = Containers(
        lambda: connect_to_engine(os.environ, THREADS_MAX), cluster_id, secret, settings, own_container_id()
    )
    return DockerLauncher(reactor, containers, cluster_id, heartbeat, lambda: datetime.now(UTC).timestamp(), times)


def known_homes(options: BalancerOptions, directory: Path) -> dict[str, Home]:
    """Return what the servers tell of their cluster, to a balancer that lost its catalog; see `launcher_of`.

    Asks the engine while nothing else runs yet. Raises LaunchFailed and lbnode.datadir.DirectoryUnusable.
    """
    if options["launcher"] != "docker":
        return homes_below(directory)
    from lbnode.launchers.docker_client import connect_to_engine
    from lbnode.launchers.docker_homes import copy_homes

    with TemporaryDirectory(prefix="shardlb-homes-") as copies:
        copy_homes(lambda: connect_to_engine(os.environ, 1), options["project"], Path(copies))
        return homes_below(Path(copies))


def others_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what servers and workers inherit: the environment without what it says of this process's options."""
    options = {name for names in COURSE_NAMES.values() for name in names} | {
        "SERVER_NAME",
        "SERVER_ID",
        "SERVER_SCHEMA",
    }
    return {name: value for name, value in own.items() if name not in options and not name.startswith("SHARDLB_")}
