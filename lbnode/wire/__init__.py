"""What clients of the balancer send, parsed and checked as far as that needs no state (HTTP_API, "Balancer").

init    POST /init
add     POST /add
rm      DELETE /rm
data    POST /read, POST /write, PUT /update, DELETE /del
"""

from __future__ import annotations

from lbnode.wire.add import AddRequest, parse_add, servers_added, template_prefix
from lbnode.wire.data import (
    ReadRequest,
    WriteRequest,
    keyed,
    on_conflict_of,
    parse_delete,
    parse_read,
    parse_update,
    parse_write,
    row_removed,
    row_updated,
    rows_added,
)
from lbnode.wire.init import REPLICAS_DEFAULT, InitRequest, parse_init
from lbnode.wire.parts import NAME_BYTES_MAX, InitLimits, InitShard, check_name, check_together
from lbnode.wire.rm import RemoveRequest, parse_remove, servers_removed

__all__ = [
    "NAME_BYTES_MAX",
    "REPLICAS_DEFAULT",
    "AddRequest",
    "InitLimits",
    "InitRequest",
    "InitShard",
    "ReadRequest",
    "RemoveRequest",
    "WriteRequest",
    "check_name",
    "check_together",
    "keyed",
    "on_conflict_of",
    "parse_add",
    "parse_delete",
    "parse_init",
    "parse_read",
    "parse_remove",
    "parse_update",
    "parse_write",
    "row_removed",
    "row_updated",
    "rows_added",
    "servers_added",
    "servers_removed",
    "template_prefix",
]
