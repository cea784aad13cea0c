"""The answer of /status as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

#: Narrow enough for a terminal of 80 columns.
_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "show_edge": False}


def status_tables(status: dict[str, Any]) -> Iterator[Table]:
    """Yield tables of the balancers if there are several, of the servers, and of the replicas."""
    if status.get("balancers"):
        yield _balancers(status)
    yield _servers(status)
    yield _replicas(status)


def _balancers(status: dict[str, Any]) -> Table:
    controller = status["controller"] or "nobody"
    table = Table("balancer", "state", "role", "term", "lag", "url", **_STYLE, title=f"{controller} is the controller")
    for balancer in status["balancers"]:
        figures = (balancer[name] for name in ("role", "term", "lag", "url"))
        table.add_row(
            balancer["name"], balancer["state"], *("" if figure is None else str(figure) for figure in figures)
        )
    return table


def _servers(status: dict[str, Any]) -> Table:
    doing = f", /{status['operation']} in progress" if status.get("operation") else ""
    columns = ("server", "state", "for", "shards", "http", "pid", "reason")
    table = Table(*columns, **_STYLE, title=f"{status['N']} servers{doing}")
    for name, shards in status["servers"].items():
        server = status["server_states"].get(name, {})
        http = server.get("http")
        table.add_row(
            name,
            server.get("state", "?"),
            _duration(server.get("for_seconds", 0.0)),
            " ".join(shards),
            f"{http['host']}:{http['port']}" if http else "",
            str(server.get("pid") or ""),
            server.get("reason", ""),
        )
    return table


def _replicas(status: dict[str, Any]) -> Table:
    columns = ("shard", "ids", "server", "id", "state", "role", "for", "term", "applied", "lag", "rows")
    doing = [f"{shard['Shard_id']}: {shard['doing']}" for shard in status["shards"] if shard.get("doing")]
    table = Table(*columns, **_STYLE, title=f"{len(status['shards'])} shards", caption="\n".join(doing))
    for shard in status["shards"]:
        low = next(value for name, value in shard.items() if name.endswith("_low"))
        ids = f"{low}-{low + shard['Shard_size'] - 1}"
        for replica in shard["replicas"]:
            figures = (replica.get(name) for name in ("term", "applied_index", "lag", "row_count"))
            table.add_row(
                shard["Shard_id"],
                ids,
                replica["server"],
                str(replica["replica_id"]),
                replica["state"],
                replica.get("role") or "",
                _duration(replica.get("for_seconds", 0.0)),
                *("" if figure is None else str(figure) for figure in figures),
            )
        table.add_section()
    return table


def _duration(seconds: float) -> str:
    """Return a time in its largest unit: 4s, 3m, 12h, 5d."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
