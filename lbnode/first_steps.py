"""What somebody who has just started a balancer can try next."""

from __future__ import annotations

from typing import Any

from dbnode.jsonhttp import encode
from lbnode.table import Table


def first_steps(url: str, table: Table | None) -> list[str]:
    """Return lines for a terminal: commands that work on this very table, or how to make one."""
    if table is None:
        return ["there is no table yet: POST /init makes one (see the README)", f"  curl {url}/status"]
    key = table.columns[0]
    low = table.shards[0].low
    row: dict[str, Any] = {key: low, **{column: f"a {column}" for column in table.columns[1:]}}
    return [
        "try:",
        f"  curl {url}/status",
        f"  curl -X POST {url}/write -d '{_json({'data': [row]})}'",
        f"  curl -X POST {url}/read -d '{_json({key: {'low': low, 'high': low + 9}})}'",
        f"  curl -X PUT {url}/update -d '{_json({key: low, 'data': dict(list(row.items())[1:])})}'",
        f"  curl -X DELETE {url}/del -d '{_json({key: low})}'",
    ]


def _json(value: Any) -> str:
    """Return JSON that a shell takes between single quotes."""
    return encode(value).decode().replace("'", "\\u0027")
