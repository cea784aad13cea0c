"""A Docker engine in memory, as far as the launcher asks one: containers, volumes, networks and events.

A container that is started behaves as a server: it fills an empty volume with an identity and a log.
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound, StreamParseError
from requests.exceptions import ConnectionError as NoConnection

_HALF_AN_EVENT = object()


class FakeEngine:
    """What the engine holds; `client` talks to it. While `is_down`, every request fails."""

    def __init__(self) -> None:
        self.is_down = False
        self.images: dict[str, str] = {"shardlb-server": "image-1"}
        self.containers: dict[str, FakeContainer] = {}
        self.volumes: dict[str, FakeVolume] = {}
        self.networks: dict[str, FakeNetwork] = {}
        self.streams: list[FakeEvents] = []
        self.numbers = itertools.count(1)
        #: A network that somebody else makes at the same time as we make one.
        self.rival: FakeNetwork | None = None
        #: Containers start when this is set.
        self.may_start = Event()
        self.may_start.set()

    def client(self) -> Any:
        """Return what docker.from_env would; fails as it does."""
        self.ask()
        return FakeClient(self)

    def ask(self) -> None:
        """Fail if the engine is down."""
        if self.is_down:
            raise NoConnection("connection refused")

    def died(self, container: FakeContainer) -> None:
        """Tell the event to whoever listens."""
        event = {"time": next(self.numbers), "Actor": {"Attributes": container.labels}}
        for stream in self.streams:
            stream.events.put(event)

    def breaks(self, *, midway: bool = False) -> None:
        """End all streams of events, perhaps in the middle of one."""
        for stream in self.streams:
            stream.events.put(_HALF_AN_EVENT if midway else None)
        self.streams.clear()


class FakeClient:
    """The part of docker.DockerClient that is used; each collection is its own namespace."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.images = FakeImages(engine)
        self.containers = FakeContainers(engine)
        self.volumes = FakeVolumes(engine)
        self.networks = FakeNetworks(engine)
        self.api = self

    def create_endpoint_config(self, aliases: list[str]) -> dict[str, Any]:
        """Return the settings of a container in a network."""
        return {"Aliases": aliases}

    def events(self, since: int, decode: bool, filters: dict[str, Any]) -> FakeEvents:
        """Return a stream of events."""
        self.engine.ask()
        stream = FakeEvents()
        self.engine.streams.append(stream)
        return stream

    def close(self) -> None:
        """Do nothing: there is no connection."""


class FakeEvents:
    """Events as they come, until closed."""

    def __init__(self) -> None:
        self.events: SimpleQueue[Any] = SimpleQueue()

    def __iter__(self) -> Iterator[Any]:
        for event in iter(self.events.get, None):
            if event is _HALF_AN_EVENT:
                raise StreamParseError(ValueError("unterminated string"))
            yield event

    def close(self) -> None:
        """End it."""
        self.events.put(None)


class FakeImages:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def get(self, name: str) -> Any:
        """Return an image."""
        self._engine.ask()
        if name not in self._engine.images:
            raise ImageNotFound(f"no image {name}")
        return FakeImage(self._engine.images[name])


class FakeImage:
    def __init__(self, id_: str) -> None:
        self.id = id_


class FakeVolume:
    """A volume: files by path, each with its mode and owner."""

    def __init__(self, engine: FakeEngine, name: str, labels: dict[str, str]) -> None:
        self._engine = engine
        self.name = name
        self.attrs = {"Labels": labels}
        self.files: dict[str, bytes] = {}
        self.entries: dict[str, tarfile.TarInfo] = {}

    def remove(self) -> None:
        """Remove it, unless a container uses it."""
        if self.name in self._engine.containers:
            raise APIError("conflict", explanation="volume is in use")
        del self._engine.volumes[self.name]


class FakeVolumes:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def get(self, name: str) -> FakeVolume:
        """Return a volume."""
        self._engine.ask()
        if name not in self._engine.volumes:
            raise NotFound(f"no volume {name}")
        return self._engine.volumes[name]

    def list(self, filters: dict[str, Any]) -> list[FakeVolume]:
        """Return the volumes with these labels."""
        self._engine.ask()
        return [volume for volume in self._engine.volumes.values() if _labelled(volume.attrs["Labels"], filters)]

    def create(self, name: str, labels: dict[str, str]) -> FakeVolume:
        """Make a volume."""
        self._engine.ask()
        return self._engine.volumes.setdefault(name, FakeVolume(self._engine, name, labels))


class FakeNetwork:
    def __init__(self, name: str, labels: dict[str, str], number: int = 0) -> None:
        self.name = name
        self.id = f"id {number} of {name}"
        self.attrs: dict[str, Any] = {"Labels": labels, "Containers": {}, "Created": f"2026-01-01T00:00:{number:02}Z"}
        self.is_removed = False

    def reload(self) -> None:
        """Nothing to do: there is one of each."""

    def remove(self) -> None:
        """Be gone."""
        self.is_removed = True

    def connect(self, container: str) -> None:
        """Take a container in."""
        self.attrs["Containers"][container] = {}


class FakeNetworks:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def list(self, names: list[str]) -> list[FakeNetwork]:
        """Return the networks in whose names one of these is."""
        self._engine.ask()
        networks = [one for one in self._engine.networks.values() if not one.is_removed]
        return [one for one in networks if any(name in one.name for name in names)]

    def create(self, name: str, *, labels: dict[str, str], internal: bool, **_: Any) -> FakeNetwork:
        """Make a network that has no way out."""
        assert internal
        if self._engine.rival is not None:
            self._engine.networks["rival"] = self._engine.rival
        network = self._engine.networks[name] = FakeNetwork(name, labels, next(self._engine.numbers))
        return network


class FakeContainer:
    """A container; `made` is what it was made with."""

    def __init__(self, engine: FakeEngine, name: str, made: dict[str, Any]) -> None:
        self._engine = engine
        self.name = name
        self.id = f"container-{next(engine.numbers)}"
        self.made = made
        self.labels: dict[str, str] = made["labels"]
        joined = {made["network"]: {"IPAddress": f"172.30.0.{next(engine.numbers)}"}} if "network" in made else {}
        self.attrs: dict[str, Any] = {
            "State": {"Running": False, "Paused": False, "Pid": 0, "StartedAt": ""},
            "NetworkSettings": {"Networks": joined},
        }

    @property
    def _volume(self) -> FakeVolume:
        return self._engine.volumes[next(iter(self.made["volumes"]))]

    def reload(self) -> None:
        """Nothing to do: there is one of each."""

    def start(self) -> None:
        """Run, as a server does."""
        self._engine.ask()
        self._engine.may_start.wait()
        files, number = self._volume.files, next(self._engine.numbers)
        assert "/data/secret" in files
        if "/data/identity.json" not in files:
            files["/data/wal/0"] = b"log"
            files["/data/identity.json"] = json.dumps({"incarnation": f"born-{number}"}).encode()
        since = f"2026-01-01T00:00:{number % 60:02}.{number:09}Z"
        self.attrs["State"] |= {"Running": True, "Pid": number, "StartedAt": since}

    def die(self) -> None:
        """End."""
        self.attrs["State"] |= {"Running": False, "Pid": 0}
        self._engine.died(self)

    def stop(self, timeout: int) -> None:
        """End, as told."""
        self._engine.ask()
        assert not self.attrs["State"]["Paused"]
        self.die()

    def unpause(self) -> None:
        """Go on."""
        self.attrs["State"]["Paused"] = False

    def remove(self, force: bool = False) -> None:
        """Be gone; a container that runs is only removed by force."""
        assert force or not self.attrs["State"]["Running"]
        del self._engine.containers[self.name]

    def logs(self, tail: int) -> bytes:
        """Return the last lines."""
        return b"the end of the log"

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        """Return what is at a path, in an archive."""
        self._engine.ask()
        found = {name: content for name, content in self._volume.files.items() if f"{name}/".startswith(f"{path}/")}
        if not found:
            raise NotFound(path)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in found.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return iter([packed.getvalue()[:100], packed.getvalue()[100:]]), {}

    def put_archive(self, path: str, packed: bytes) -> None:
        """Unpack files."""
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                assert file is not None
                self._volume.files[f"{path}/{entry.name}"] = file.read()
                self._volume.entries[entry.name] = entry


def _labelled(labels: dict[str, str], filters: dict[str, Any]) -> bool:
    """Tell whether a thing has all labels of a filter, each `name` or `name=value`."""
    return all(
        label in labels or label in (f"{name}={value}" for name, value in labels.items()) for label in filters["label"]
    )


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def get(self, name: str) -> FakeContainer:
        """Return a container."""
        self._engine.ask()
        if name not in self._engine.containers:
            raise NotFound(f"no container {name}")
        return self._engine.containers[name]

    def create(self, image: str, command: list[str], *, name: str, **made: Any) -> FakeContainer:
        """Make a container."""
        self._engine.ask()
        if name in self._engine.containers:
            raise APIError("conflict", explanation=f"the name {name} is taken")
        made |= {"image": image, "command": command}
        container = self._engine.containers[name] = FakeContainer(self._engine, name, made)
        return container

    def list(self, all: bool, filters: dict[str, Any]) -> list[FakeContainer]:
        """Return the containers with these labels, whether they run or not."""
        self._engine.ask()
        return [one for one in self._engine.containers.values() if _labelled(one.labels, filters)]
