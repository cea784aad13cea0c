"""The default configuration of HTTP_API.md: six servers, four shards of 4096 ids, three replicas of each."""

from __future__ import annotations

from typing import Any, Final

#: Servers and the shards that they hold replicas of.
_PLACEMENT: Final = {
    "Server0": ["sh1", "sh2"],
    "Server1": ["sh3", "sh4"],
    "Server3": ["sh1", "sh3"],
    "Server4": ["sh4", "sh2"],
    "Server5": ["sh1", "sh4"],
    "Server6": ["sh3", "sh2"],
}
_SHARD_SIZE: Final = 4096


def default_table(servers: int | None = None) -> dict[str, Any]:
    """Return the body of /init for the default table; with a number of `servers` the balancer places the replicas."""
    return {
        "N": servers or len(_PLACEMENT),
        "schema": {
            "columns": ["Stud_id", "Stud_name", "Stud_marks"],
            "dtypes": ["Number", "String", "String"],
        },
        "shards": [
            {"Stud_id_low": place * _SHARD_SIZE, "Shard_id": f"sh{place + 1}", "Shard_size": _SHARD_SIZE}
            for place in range(4)
        ],
        **({} if servers else {"servers": _PLACEMENT}),
    }
