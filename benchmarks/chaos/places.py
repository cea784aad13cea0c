"""Places in which a cluster's servers can be cut off: a network namespace for each, entered as it is started."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import msgspec

from benchmarks.chaos import enter
from raftlog.testing.namespaces import HERE, Namespaces

#: How many servers may be there during a chaos, those that were removed included.
_PLACES = 40


class Places:
    """Free places, told of in `directory` to the servers that are started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._namespaces = Namespaces()
        self._names: dict[str, str] = {}

    def open(self) -> None:
        """Make the places. Raises raftlog.testing.namespaces.NamespacesUnavailable with the reason."""
        self._namespaces.open()
        for number in range(_PLACES):
            self._names[self._namespaces.add_host(f"place{number}")] = f"place{number}"
        self._directory.mkdir(parents=True)
        places = [(name, self._namespaces.command(name), address) for address, name in self._names.items()]
        (self._directory / "places.json").write_bytes(msgspec.json.encode(places))

    def close(self) -> None:
        """Remove the places; fine if there are none."""
        self._namespaces.close()

    @property
    def wrapper(self) -> str:
        """What stands in front of each server's command, for a balancer's --server-wrapper."""
        return shlex.join([sys.executable, "-S", "-P", enter.__file__, str(self._directory)])

    def cut(self, addresses: list[str], *, hear: bool = False, heard: bool = False) -> None:
        """Cut off the servers at these addresses from all others, whom they may still hear, or be heard by."""
        victims = {self._names[address] for address in addresses}
        others = {HERE, *self._names.values()}
        lost = {}
        for victim in victims:
            for other in others - {victim}:
                if not hear:
                    lost[other, victim] = 1.0
                if not heard:
                    lost[victim, other] = 1.0
        self._namespaces.lose(lost)

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._namespaces.lose({})
