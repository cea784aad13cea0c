"""The command line of `twistd shardlb`: every option also from the environment, some under the course's names.

An option on the command line wins over SHARDLB_<OPTION>, and that over the course's name.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.python import usage

from dbnode.client.storage import storage_from_text
from dbnode.jsonhttp import RECEIVING, Limits
from dbnode.wire import BODY_BYTES_LIMIT
from lbnode import roles
from lbnode.peers import parse_addresses
from lbnode.ring import SLOTS, VIRTUAL_SERVERS
from raftlog.link import Endpoint

#: The names that the course's projects use for the same things.
COURSE_NAMES: dict[str, tuple[str, ...]] = {
    "port": ("PORT",),
    "server-number": ("SERVER_NUMBER",),
    "server-image": ("SERVER_IMAGE",),
    "network": ("NETWORK_MODE",),
    "slots": ("NUM_SLOTS", "HASH_MODULO"),
    "virtual-servers": ("NUM_VIRT_SERV",),
    "storage": ("DATABASE_URL",),
}


_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{text} is not at least 1")
    return number


def _body_bytes(text: str) -> int:
    number = _positive(text)
    if number > BODY_BYTES_LIMIT:
        raise ValueError(f"{text} is above {BODY_BYTES_LIMIT}: a longer change would be no entry of a shard's log")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text} is not a time above 0")
    return seconds


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _folder(text: str) -> str:
    return str(_absolute(text))


def _command(text: str) -> tuple[str, ...]:
    """Return the words of a command whose program can be found."""
    words = tuple(shlex.split(text))
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"there is no program {words[0] if words else text!r}")
    return words


def _launcher(text: str) -> str:
    if text not in ("process", "docker"):
        raise ValueError(f"{text} is no launcher; it is process or docker")
    return text


def _memory_bytes(text: str) -> int:
    """Return bytes from a number with k, m or g; below 64 MiB no server would start."""
    number, unit = (text[:-1], text[-1]) if text[-1:].lower() in _UNITS else (text, "b")
    amount = int(number) * _UNITS[unit.lower()]
    if amount < 64 << 20:
        raise ValueError(f"{text} is less than the 64m that a server needs")
    return amount


def _processors(text: str) -> float:
    number = float(text)
    if not 0.01 <= number < float("inf"):
        raise ValueError(f"{text} is not a number of processors from 0.01")
    return number


def _endpoint(text: str) -> str:
    """Return the description of a server endpoint; a bare number is a port on the loopback."""
    return f"tcp:{_port_number(text)}:interface=127.0.0.1" if text.isdecimal() else text


def _port_number(text: str) -> int:
    if not int(text) < 1 << 16:
        raise ValueError(f"{text} is no port")
    return int(text)


def _anywhere(text: str) -> str:
    """Return the description of a server endpoint; a bare number is a port on all interfaces."""
    return f"tcp:{_port_number(text)}" if text.isdecimal() else text


def _peers(text: str) -> dict[str, Endpoint]:
    return parse_addresses(text)


#: Who reads the data requests: the lean lane in front of Klein, or Klein like all others.
LANES = ("lean", "klein")


def _lane(text: str) -> str:
    if text not in LANES:
        raise ValueError(f"{text} is none of {', '.join(LANES)}")
    return text


#: Name, short name, default, what it is for, and how its text becomes a value.
_PARAMETERS: list[tuple[str, str | None, Any, str, Callable[[str], Any]]] = [
    ("port", "p", _endpoint("5000"), "Where clients connect: a port on 127.0.0.1, or an endpoint", _endpoint),
    ("lane", None, "lean", "Who serves reads and changes: 'lean', in front of Klein, or 'klein' itself", _lane),
    ("data-dir", "d", "data", "Directory of the catalog, the cluster's secret and the servers", str),
    ("tls-dir", None, None, "Certificates (see bin/certificates): servers and links in mutual TLS", _absolute),
    (
        "workers",
        None,
        0,
        "Processes that serve clients as followers of this one; 0: it does itself",
        roles.workers,
    ),
    (
        "follow",
        None,
        None,
        "Serve by the catalog of these balancers, URL[,URL…], and keep none",
        roles.balancers,
    ),
    ("secret-file", None, None, "With --follow or --peers: a file with the cluster's secret", _absolute),
    ("name", None, None, "With --peers: which of them this one is; with --follow: whose certificate it has", str),
    ("peers", None, None, "All balancers of the cluster, NAME=HOST:PORT,… with the addresses of their --link", _peers),
    ("link", None, None, "With --peers: where the other balancers connect, such as tcp:5100", _anywhere),
    ("advertise", None, None, "With --peers: URL at which the others reach this one's --port", str),
    ("servers-dir", None, None, "Directory of the servers' data; default: servers in the data directory", _absolute),
    ("auto-init", None, None, "Make a table if there is none: 'default', or a FILE with the body of an /init", str),
    ("server-number", None, None, "With --auto-init default: so many servers, placed by the balancer", _positive),
    (
        "launcher",
        None,
        "process",
        "What servers are: process (of this machine) or docker (containers)",
        _launcher,
    ),
    ("server-image", None, "shardlb-server", "Containers: their image", str),
    ("network", None, "", "Containers: a network of the engine to use, instead of one of the cluster's own", str),
    ("project", None, "shardlb", "Containers: a label for all that is made, to find it by", str),
    ("server-memory", None, None, "Containers: most memory of each, as 512m or 2g", _memory_bytes),
    ("server-cpus", None, None, "Containers: most processors of each, as 0.5", _processors),
    (
        "storage",
        None,
        None,
        "Where new servers keep shards: sqlite (their default), postgres (of their own), or a DSN postgresql://...",
        storage_from_text,
    ),
    ("server-wrapper", None, (), "Processes: a command that becomes the server's, as 'nice -n 5'", _command),
    ("postgres-programs", None, "", "Processes: folder of PostgreSQL's programs, unless they are found", _folder),
    ("slots", None, SLOTS, "Slots of each shard's ring of readers", _positive),
    ("virtual-servers", None, VIRTUAL_SERVERS, "Places of each server on a ring", _positive),
    ("deadline", None, 10.0, "Seconds for which a request is held while its shard cannot serve it", _seconds),
    ("init-deadline", None, 180.0, "Seconds that an /init may take", _seconds),
    ("resize-deadline", None, 600.0, "Seconds that an /add or /rm may take", _seconds),
    ("start-deadline", None, 30.0, "Seconds that a server may take until it answers", _seconds),
    ("heartbeat-interval", None, 1.0, "Seconds between two looks at a server", _seconds),
    ("heartbeat-deadline", None, 2.0, "Seconds that a server may take to answer a heartbeat", _seconds),
    ("heartbeat-misses", None, 3, "Heartbeats missed in a row until a server counts as down", _positive),
    ("hung-deadline", None, 60.0, "Seconds that a running server may be silent until it is killed", _seconds),
    ("respawn-tries", None, 6, "Starts in vain until a server's replicas move to others", _positive),
    ("body-bytes-max", None, 16 << 20, "Longest request body, in bytes", _body_bytes),
    ("rows-max", None, 100_000, "Most rows in one /write", _positive),
    ("connections-max", None, 10_000, "Most client connections at once", _positive),
    ("receiving-bytes-max", None, Limits().receiving_bytes_max, RECEIVING, _positive),
    ("queue-max", None, 20_000, "Most reads, and most changes of each shard, that may wait at once", _positive),
]

_FLAGS = {
    "rebuild": "Put a catalog that is gone together again from what the servers know",
    "rejoin": "With --peers: the data directory was lost; take part again, under a new id",
    "share-port": "With --follow: let other processes of this user listen at the same port",
    "stop-on-eof": "With --follow: stop when standard input ends",
}


class BalancerOptions(usage.Options):
    """Options of the balancer; `environment` is where those come from that the command line leaves out."""

    synopsis = "[options]"
    optFlags = [[name, None, text] for name, text in _FLAGS.items()]
    optParameters = [list(parameter) for parameter in _PARAMETERS]

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        for name, _, _, _, convert in _PARAMETERS:
            variables = (f"SHARDLB_{name.upper().replace('-', '_')}", *COURSE_NAMES.get(name, ()))
            variable = next((variable for variable in variables if environment.get(variable)), None)
            if variable is not None:
                self[name] = _converted(variable, environment[variable], convert)
        # What an image or a service manager says to all alike is not held against a process that has no use for it.
        self._before = dict(self)

    def postOptions(self) -> None:
        """Refuse what does not go together."""
        if self["server-number"] is not None and self["auto-init"] != "default":
            raise usage.UsageError("--server-number is for --auto-init default; an /init says N itself")
        roles.check(self, self._before)
        try:
            self.limits.check()
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    @property
    def limits(self) -> Limits:
        """What clients may take of the balancer."""
        return Limits(
            body_bytes_max=self["body-bytes-max"],
            connections_max=self["connections-max"],
            receiving_bytes_max=self["receiving-bytes-max"],
        )


def _converted(variable: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise usage.UsageError(f"{variable}={text}: {error}") from None
