"""What the process is for, by its options: a balancer, one with workers, or a follower of other balancers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from twisted.python import usage

from dbnode.wire import Endpoint

#: More would only be in each other's way.
WORKERS_MAX = 256

#: What a worker is told as its balancer was: how to serve clients.
SERVING = (
    "lane",
    "tls-dir",
    "name",
    "slots",
    "virtual-servers",
    "deadline",
    "init-deadline",
    "resize-deadline",
    "body-bytes-max",
    "rows-max",
    "connections-max",
    "receiving-bytes-max",
    "queue-max",
)
_FOLLOWERS_OWN = ("share-port", "stop-on-eof")
_PEERS_OWN = ("name", "link", "advertise", "rejoin", "secret-file")
_BALANCERS_OWN = (
    "data-dir",
    "workers",
    "rebuild",
    "peers",
    "link",
    "advertise",
    "rejoin",
    "servers-dir",
    "auto-init",
    "launcher",
    "storage",
    "postgres-programs",
    "start-deadline",
    "heartbeat-interval",
    "heartbeat-deadline",
    "heartbeat-misses",
    "hung-deadline",
    "respawn-tries",
)


def workers(text: str) -> int:
    """Return a number of workers; raises ValueError."""
    number = int(text)
    if not 0 <= number <= WORKERS_MAX:
        raise ValueError(f"{text} is not between 0 and {WORKERS_MAX}")
    return number


def balancers(text: str) -> tuple[Endpoint, ...]:
    """Return where balancers are, from their URLs with commas between them; raises ValueError."""
    return tuple(_balancer(url.strip()) for url in text.split(","))


def _balancer(url: str) -> Endpoint:
    wanted = f"{url!r} is no balancer's URL such as http://127.0.0.1:5000"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{wanted} ({error})") from None
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/") or parts.query or "@" in url:
        raise ValueError(wanted)
    return Endpoint(host, port)


def check(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse options for processes of another kind that are not as their `defaults`; raises UsageError."""
    if options["follow"] is None:
        _refuse(options, defaults, _FOLLOWERS_OWN, "is for followers (--follow)")
        _check_peers(options, defaults)
        return
    _refuse(options, defaults, _BALANCERS_OWN, "is for a balancer; a follower (--follow) has no catalog and no servers")
    if options["secret-file"] is None:
        raise usage.UsageError("--follow needs --secret-file: a copy of the balancer's DATA/secret")


def _check_peers(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    peers = options["peers"]
    if peers is None:
        _refuse(options, defaults, _PEERS_OWN, "is for one of several balancers (--peers), or with --follow")
        return
    if options["name"] is None:
        raise usage.UsageError(f"--peers needs --name, which of {', '.join(sorted(peers))} this one is")
    if options["name"] not in peers:
        raise usage.UsageError(f"--name {options['name']} is none of --peers, which are {', '.join(sorted(peers))}")
    if options["servers-dir"] is None and options["launcher"] == "process":
        raise usage.UsageError("--peers needs --servers-dir, one directory for all balancers, where the servers live")
    if options["rejoin"] and options["rebuild"]:
        raise usage.UsageError("--rejoin is for one balancer of several that is lost, --rebuild if all of them are")


def _refuse(options: Mapping[str, Any], defaults: Mapping[str, Any], names: Iterable[str], reason: str) -> None:
    for name in names:
        if options[name] != defaults[name]:
            raise usage.UsageError(f"--{name} {reason}")
