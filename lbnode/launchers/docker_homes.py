"""The homes of a project as the engine has them: whose they are, and copies of what they tell of their cluster.

For a balancer whose own disk is new: it must not begin another cluster over servers that hold a table (as
lbnode.datadir says of processes), and can put the catalog together again from them (lbnode.rebuild). Calls block.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from lbnode.launchers import LaunchFailed
from lbnode.launchers.docker_archive import only_file
from lbnode.launchers.docker_client import asking
from lbnode.launchers.docker_names import DATA, LABEL_CLUSTER, LABEL_HOME, LABEL_PROJECT

#: What lbnode.rebuild reads of a home.
_TELLING = ("identity.json", "config.json", "secret")


def check_project(client: Any, cluster_id: str, project: str) -> None:
    """Refuse a project whose servers are all another cluster's; raises LaunchFailed."""
    volumes = client.volumes.list(filters={"label": [f"{LABEL_PROJECT}={project}", LABEL_HOME]})
    clusters = {volume.attrs["Labels"][LABEL_CLUSTER] for volume in volumes}
    if clusters and cluster_id not in clusters:
        raise LaunchFailed(
            f"the engine holds servers of project {project} from cluster {', '.join(sorted(clusters))}, whose catalog "
            "is not here: bring it back, begin once with --rebuild to put it together from what the servers know, "
            "or choose another --project"
        )


def copy_homes(connect: Callable[[], Any], project: str, target: Path) -> None:
    """Copy what the project's servers tell of their cluster into a directory, one below it for each home."""
    with asking():
        client = connect()
        labels = [f"{LABEL_PROJECT}={project}", LABEL_HOME]
        for container in client.containers.list(all=True, filters={"label": labels}):
            copy = target / f"{container.labels[LABEL_CLUSTER]} {container.labels[LABEL_HOME]}"
            copy.mkdir(mode=0o700)
            for name in _TELLING:
                _copy_file(container, name, copy / name)
        client.close()


def _copy_file(container: Any, name: str, path: Path) -> None:
    try:
        chunks, _ = container.get_archive(f"{DATA}/{name}")
    except NotFound:
        return
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(only_file(chunks))
