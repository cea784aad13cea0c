"""The network of a cluster's servers: private to them and the balancer, with no way out.

A balancer that is itself a container joins it; one on the host reaches the servers over the network's bridge.
"""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event
from typing import Any

from docker.errors import APIError, NotFound

from lbnode.launchers import LaunchFailed
from lbnode.launchers.docker_names import LABEL_CLUSTER, DockerSettings, cluster_labels, network_name

_CONFLICT = 409
#: How long the engine may take to show a network that it makes for somebody else.
SETTLE_SECONDS = 1.0
#: The engine mounts files of its own into a container, from a directory that is called after the container.
_OWN_MOUNT = re.compile(r"/containers/([0-9a-f]{64})/\S*hostname /etc/hostname ")


def ready_network(client: Any, cluster_id: str, settings: DockerSettings, own_container: str | None) -> str:
    """Return the id of the cluster's network, made now if need be and joined by the balancer's own container.

    Raises LaunchFailed if it cannot be used.
    """
    name = network_name(cluster_id, settings)
    network = _named(client, name) or _made(client, name, cluster_id, settings)
    if not settings.network and (network.attrs.get("Labels") or {}).get(LABEL_CLUSTER) != cluster_id:
        raise LaunchFailed(f"there is a network {name} that is not of this cluster: remove it, or name one to be used")
    if own_container is not None:
        _join(network, own_container)
    return str(network.id)


def own_container_id(mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the id of the container that this process runs in, None if it runs on the host."""
    found = _OWN_MOUNT.search(Path(mounts).read_text())
    return found[1] if found else None


def _named(client: Any, name: str) -> Any:
    """Return the network of exactly this name that was made first, None if there is none.

    The engine's own filter takes parts of names.
    """
    found = [network for network in client.networks.list(names=[name]) if network.name == name]
    return min(found, key=lambda network: (network.attrs["Created"], network.id), default=None)


def _made(client: Any, name: str, cluster_id: str, settings: DockerSettings) -> Any:
    """Return a network made now.

    Balancers that begin together may each make one: the engine looks for others of the name before, but not at once.
    Then all of them take the first.
    """
    if settings.network:
        raise LaunchFailed(f"the engine has no network {name}: make it, or let the balancer make one of its own")
    labels = cluster_labels(cluster_id, settings)
    try:
        made = client.networks.create(name, driver="bridge", internal=True, check_duplicate=True, labels=labels)
    except APIError as error:
        if error.status_code != _CONFLICT:
            raise
        return _named(client, name)
    Event().wait(SETTLE_SECONDS)
    first = _named(client, name)
    if first.id != made.id:
        made.remove()
    return first


def _join(network: Any, own_container: str) -> None:
    network.reload()
    if own_container in (network.attrs.get("Containers") or {}):
        return
    try:
        network.connect(own_container)
    except NotFound as error:
        raise LaunchFailed(f"the balancer's own container is not in this engine: {error.explanation}") from error
