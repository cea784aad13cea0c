"""What the launcher of containers calls things in the engine, and how it tells its own from other people's.

A container, its volume and the network carry labels; the names are for people, the labels decide. Nothing without the
cluster's own label is ever stopped or removed. `project` is for whoever runs several clusters on one engine: it marks
all of them, so that they can be found and removed together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

LABEL_PROJECT = "shardlb.project"
LABEL_CLUSTER = "shardlb.cluster"
LABEL_HOME = "shardlb.home"
LABEL_SERVER = "shardlb.server"
#: What a container was made from; one that is dead and was made from something else is made anew.
LABEL_RECIPE = "shardlb.recipe"

#: Where a server's volume is inside its container, and whose it is there: as the image says (see Dockerfile).
DATA = "/data"
USER_ID = 10001
#: The ports of a server inside its container.
HTTP_PORT, LINK_PORT = 5000, 5001

#: What a name in the engine may be made of, and how much of a home it shows.
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]")
_SHOWN_MAX = 40


class DockerSettings(msgspec.Struct, frozen=True):
    """What an operator chose: the servers' image, their network ("": one of the cluster's own), project and limits.

    `tls_dir` is where this process has the servers' certificates, "" for no TLS. `storage`: see
    lbnode.launchers.ServerStorage.
    """

    image: str = "shardlb-server"
    network: str = ""
    project: str = "shardlb"
    memory_bytes: int | None = None
    cpus: float | None = None
    tls_dir: str = ""
    storage: str | None = None


def home_name(cluster_id: str, home: str) -> str:
    """Return the name of a home's container and of its volume."""
    shown = _NOT_ALLOWED.sub("-", home)[:_SHOWN_MAX]
    if shown != home:
        shown += "-" + hashlib.sha256(home.encode()).hexdigest()[:10]
    return f"shardlb-{cluster_id}-{shown}"


def network_name(cluster_id: str, settings: DockerSettings) -> str:
    """Return the name of the network of a cluster's servers."""
    return settings.network or f"shardlb-{cluster_id}"


def cluster_labels(cluster_id: str, settings: DockerSettings) -> dict[str, str]:
    """Return the labels of everything that a cluster has in the engine."""
    return {LABEL_PROJECT: settings.project, LABEL_CLUSTER: cluster_id}


def is_home(labels: Mapping[str, str] | None, cluster_id: str, home: str) -> bool:
    """Tell whether labels are those of a home of this cluster."""
    return labels is not None and labels.get(LABEL_CLUSTER) == cluster_id and labels.get(LABEL_HOME) == home
