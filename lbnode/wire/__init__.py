"""What clients of the balancer send, parsed and checked as far as that needs no state (HTTP_API, "Balancer").

init    POST /init
data    POST /read, POST /write, PUT /update, DELETE /del
"""

from __future__ import annotations

from lbnode.wire.data import (
    ReadRequest,
    WriteRequest,
    keyed,
    parse_delete,
    parse_read,
    parse_update,
    parse_write,
    row_removed,
    row_updated,
    rows_added,
)
from lbnode.wire.init import InitLimits, InitRequest, InitShard, check_name, parse_init

__all__ = [
    "InitLimits",
    "InitRequest",
    "InitShard",
    "ReadRequest",
    "WriteRequest",
    "check_name",
    "keyed",
    "parse_delete",
    "parse_init",
    "parse_read",
    "parse_update",
    "parse_write",
    "row_removed",
    "row_updated",
    "rows_added",
]
