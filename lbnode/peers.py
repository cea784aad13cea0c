"""`--peers lb1=host:port,lb2=host:port,…`: the balancers of a cluster and where each takes the links of the others."""

from __future__ import annotations

import re

import msgspec

from raftlog.link import Endpoint

#: More voters make every change of the catalog slower and nothing safer.
_PEERS_MAX = 9
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Peers(msgspec.Struct, frozen=True):
    """All balancers by name, this one (`own`) among them, with their links' addresses."""

    own: str
    addresses: dict[str, Endpoint]

    @property
    def others(self) -> list[str]:
        """The names of the others, in order."""
        return sorted(self.addresses.keys() - {self.own})


def parse_addresses(text: str) -> dict[str, Endpoint]:
    """Return addresses by name; raises ValueError that says what is wrong and what would be right."""
    found: dict[str, Endpoint] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, address = part.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"{part!r} is not NAME=HOST:PORT, such as lb1=10.0.0.1:5100")
        if name in found:
            raise ValueError(f"{name} is named twice")
        found[name] = _endpoint(address)
    if len(set(found.values())) < len(found):
        raise ValueError("two balancers have the same address")
    if not 3 <= len(found) <= _PEERS_MAX or len(found) % 2 == 0:
        raise ValueError(
            f"{len(found)} balancers: name 3 (or 5, 7, 9), this one among them; an even number outlives no more deaths"
        )
    return found


def _endpoint(address: str) -> Endpoint:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{address!r} is not HOST:PORT, such as 10.0.0.1:5100")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))
