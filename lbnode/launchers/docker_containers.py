"""A cluster's containers and volumes in the engine: found, made, started, stopped, removed. Every call blocks.

A server's home is its volume; a container is what runs on it. One that is dead is started again, or made anew if it
would be made differently today: another image, other limits. Containers have no capabilities, no way to gain any, a
file system that cannot be written but for the volume, and no root inside. The cluster's secret goes into the volume,
as a file that only the server may read; neither environment nor arguments hold it. So do its certificate and key.

Raises EngineUnreachable if the engine cannot be asked, LaunchFailed for what it refuses.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from docker.errors import ImageNotFound, NotFound
from docker.types import LogConfig

from dbnode.wire import Endpoint, ServerFile
from lbnode.launchers import STORAGE_FILE, LaunchFailed, LostHome, ServerSpec
from lbnode.launchers.certify import certify
from lbnode.launchers.docker_archive import archive_of, has_file, only_file
from lbnode.launchers.docker_client import asking
from lbnode.launchers.docker_homes import check_project
from lbnode.launchers.docker_names import (
    DATA,
    HTTP_PORT,
    LABEL_HOME,
    LABEL_RECIPE,
    LABEL_SERVER,
    LINK_PORT,
    USER_ID,
    DockerSettings,
    cluster_labels,
    home_name,
    is_home,
    network_name,
)
from lbnode.launchers.docker_network import ready_network
from raftlog.tls.name import authorities, process_file

#: Processes in one container: a server with a private PostgreSQL needs some dozens.
_PROCESSES_MAX = 512
#: What the engine keeps of what a server says.
_LOG = {"max-size": "10m", "max-file": "3"}
_LOG_LINES = 12
#: Names under which others in the network can find a server by itself.
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Containers:
    """The containers of one cluster. `open` first; any thread may call."""

    def __init__(
        self,
        connect: Callable[[], Any],
        cluster_id: str,
        secret: bytes,
        settings: DockerSettings,
        own_container: str | None,
    ) -> None:
        self._connect = connect
        self._cluster_id = cluster_id
        self._secret = secret
        self._settings = settings
        self._own_container = own_container
        self._network = network_name(cluster_id, settings)
        self._labels = cluster_labels(cluster_id, settings)
        self._client: Any = None
        #: The recipe's hash, and what is known of containers that cannot change while they are there.
        self._recipe = ""
        self._incarnations: dict[str, str] = {}
        #: Whoever gave up waiting for a start did not end it: a stop comes after it, not before.
        self._turns: defaultdict[str, Lock] = defaultdict(Lock)

    # ---- the engine -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the engine, the image and the network, which is made if need be."""
        with asking():
            self._client = self._connect()
            try:
                image = self._client.images.get(self._settings.image)
            except ImageNotFound:
                text = f"the engine has no image {self._settings.image}: build it (make build), or name another"
                raise LaunchFailed(text) from None
            check_project(self._client, self._cluster_id, self._settings.project)
            network_id = ready_network(self._client, self._cluster_id, self._settings, self._own_container)
            recipe = msgspec.json.encode([image.id, network_id, self._settings])
            self._recipe = hashlib.sha256(recipe).hexdigest()[:16]

    def close(self) -> None:
        """Let go of the engine."""
        if self._client is not None:
            self._client.close()

    def deaths(self, since: int) -> Any:
        """Return the stream of the engine's events about containers of this cluster that died; it can be closed."""
        labels = [f"{name}={value}" for name, value in self._labels.items()]
        with asking():
            return self._client.events(
                since=since, decode=True, filters={"type": "container", "event": "die", "label": labels}
            )

    # ---- looking ----------------------------------------------------------------------------------------------

    def find(self, home: str) -> ServerFile | None:
        """Return what runs on a home, None if nothing does.

        `pid` is the number that the host has for its first process, `started_at` counts microseconds. The host of its
        addresses is "" while the container is cut off from the network.
        """
        with asking():
            container = self._container(home)
            if container is None or not container.attrs["State"]["Running"]:
                return None
            incarnation = self._incarnation(container)
            return self._described(container, incarnation) if incarnation else None

    def runs(self, home: str) -> bool:
        """Tell whether a home's container runs, whatever the server in it does."""
        with asking():
            container = self._container(home)
            return container is not None and bool(container.attrs["State"]["Running"])

    def log_end(self, home: str) -> str:
        """Return the last lines that a server said."""
        with asking():
            container = self._container(home)
            said = container.logs(tail=_LOG_LINES).decode("utf-8", "replace") if container is not None else ""
            return said or "(it said nothing)"

    def _container(self, home: str) -> Any:
        """Return a home's container as it is now, None if there is none."""
        name = home_name(self._cluster_id, home)
        try:
            container = self._client.containers.get(name)
        except NotFound:
            return None
        if not is_home(container.labels, self._cluster_id, home):
            raise LaunchFailed(f"the container {name} is not of this cluster: remove or rename it")
        return container

    def _volume(self, home: str) -> Any:
        """Return a home's volume, None if there is none."""
        name = home_name(self._cluster_id, home)
        try:
            volume = self._client.volumes.get(name)
        except NotFound:
            return None
        if not is_home(volume.attrs.get("Labels"), self._cluster_id, home):
            raise LaunchFailed(f"the volume {name} is not of this cluster: remove it")
        return volume

    def _incarnation(self, container: Any) -> str:
        """Return the incarnation of the data on a container's volume, "" if it has none yet."""
        if container.id not in self._incarnations:
            try:
                chunks, _ = container.get_archive(f"{DATA}/identity.json")
                incarnation = msgspec.json.decode(only_file(chunks), type=dict[str, str])["incarnation"]
            except (NotFound, KeyError, ValueError):  # ValueError: msgspec's errors
                return ""
            self._incarnations[container.id] = incarnation
        return self._incarnations[container.id]

    def _described(self, container: Any, incarnation: str) -> ServerFile:
        state = container.attrs["State"]
        joined = container.attrs["NetworkSettings"]["Networks"].get(self._network) or {}
        address = joined.get("IPAddress") or ""
        return ServerFile(
            name=container.labels[LABEL_SERVER],
            incarnation=incarnation,
            cluster_id=self._cluster_id,
            pid=state["Pid"],
            started_at=round(datetime.fromisoformat(state["StartedAt"]).timestamp() * 1_000_000),
            http=Endpoint(address, HTTP_PORT),
            link=Endpoint(address, LINK_PORT),
        )

    # ---- starting ---------------------------------------------------------------------------------------------

    def start(self, spec: ServerSpec) -> None:
        """Make a home's container run, unless it does. Raises LostHome before anything is started."""
        with asking(), self._turns[spec.home]:
            container, is_new = self._ready_container(spec)
            if spec.incarnation and not self._holds(container, spec.incarnation):
                if is_new:
                    container.remove()
                raise LostHome(f"the volume {container.name} does not hold the data of {spec.name} any more")
            if not container.attrs["State"]["Running"]:
                for name, content in self._private_files(spec):
                    container.put_archive(DATA, archive_of(name, content, USER_ID))
                container.start()

    def _private_files(self, spec: ServerSpec) -> Iterator[tuple[str, bytes]]:
        """Yield what a server knows and others must not, by the name that it has in its volume."""
        yield "secret", self._secret + b"\n"
        if self._settings.storage is not None:
            yield STORAGE_FILE, self._settings.storage.encode()
        if self._settings.tls_dir:
            directory = Path(self._settings.tls_dir)
            certify(directory, spec.name)
            for path in (authorities(directory), process_file(directory, "server", spec.name)):
                yield path.name, path.read_bytes()

    def _ready_container(self, spec: ServerSpec) -> tuple[Any, bool]:
        """Return a home's container, and whether it was made now."""
        container = self._container(spec.home)
        if container is not None:
            if container.attrs["State"]["Running"] or container.labels.get(LABEL_RECIPE) == self._recipe:
                return container, False
            container.remove()
        if self._volume(spec.home) is None:
            name = home_name(self._cluster_id, spec.home)
            if spec.incarnation:
                raise LostHome(f"the volume {name} of {spec.name} is gone (incarnation {spec.incarnation})")
            self._client.volumes.create(name, labels=self._labels | {LABEL_HOME: spec.home})
        return self._made(spec), True

    def _holds(self, container: Any, incarnation: str) -> bool:
        """Tell whether a volume holds the data of an incarnation, its log included."""
        if self._incarnation(container) != incarnation:
            return False
        if container.attrs["State"]["Running"]:
            return True
        try:
            chunks, _ = container.get_archive(f"{DATA}/wal")
        except NotFound:
            return False
        return has_file(chunks)

    def _made(self, spec: ServerSpec) -> Any:
        name = home_name(self._cluster_id, spec.home)
        aliases = [spec.name] if _HOST_NAME.fullmatch(spec.name) else []
        container = self._client.containers.create(
            self._settings.image,
            _arguments(spec, self._settings),
            name=name,
            labels=self._labels | {LABEL_HOME: spec.home, LABEL_SERVER: spec.name, LABEL_RECIPE: self._recipe},
            user=f"{USER_ID}:{USER_ID}",
            volumes={name: {"bind": DATA, "mode": "rw"}},
            network=self._network,
            networking_config={self._network: self._client.api.create_endpoint_config(aliases=aliases)},
            log_config=LogConfig(type=LogConfig.types.JSON, config=_LOG),
            **_confinement(self._settings),
        )
        container.reload()
        return container

    # ---- ending -----------------------------------------------------------------------------------------------

    def stop(self, home: str, patience_seconds: int) -> None:
        """Stop what runs on a home, by force when patience ends."""
        with asking(), self._turns[home]:
            container = self._container(home)
            if container is not None:
                _stop(container, patience_seconds)

    def destroy(self, home: str, patience_seconds: int) -> None:
        """Stop what runs on a home and remove its container and volume."""
        with asking(), self._turns[home]:
            container, volume = self._container(home), self._volume(home)
            if container is not None:
                _stop(container, patience_seconds)
                container.remove(force=True)
                self._incarnations.pop(container.id, None)
            if volume is not None:
                volume.remove()


def _stop(container: Any, patience_seconds: int) -> None:
    if container.attrs["State"]["Paused"]:
        container.unpause()
    if container.attrs["State"]["Running"]:
        container.stop(timeout=patience_seconds)


def _arguments(spec: ServerSpec, settings: DockerSettings) -> list[str]:
    storage = [f"--storage-file={DATA}/{STORAGE_FILE}"] if settings.storage is not None else []
    return [
        f"--name={spec.name}",
        f"--data-dir={DATA}",
        f"--cluster-id={spec.cluster_id}",
        f"--http=tcp:{HTTP_PORT}",
        f"--link=tcp:{LINK_PORT}",
        f"--tls-dir={DATA if settings.tls_dir else 'off'}",
        *storage,
    ]


def _confinement(settings: DockerSettings) -> dict[str, Any]:
    """Return what a container may not, and how much it may have."""
    confined: dict[str, Any] = {
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},
        "pids_limit": _PROCESSES_MAX,
    }
    if settings.memory_bytes is not None:
        confined["mem_limit"] = confined["memswap_limit"] = settings.memory_bytes
    if settings.cpus is not None:
        confined["nano_cpus"] = round(settings.cpus * 1_000_000_000)
    return confined
