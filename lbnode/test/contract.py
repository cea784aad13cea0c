"""The whole of HTTP_API.md that is in scope, as one class to be bound to a kind of balancer."""

from __future__ import annotations

from lbnode.test import (
    conformance_changes,
    conformance_cluster,
    conformance_http,
    conformance_lines,
    conformance_reads,
    conformance_resize,
)
from lbnode.test.conformance import ConformanceCase
from lbnode.test.conformance_cluster import BeforeInit

__all__ = ["BeforeInit", "ConformanceCase", "Contract", "Removal"]


class Contract(
    conformance_changes.Writes,
    conformance_changes.Updates,
    conformance_changes.Deletions,
    conformance_changes.Idempotency,
    conformance_lines.Lines,
    conformance_reads.Reads,
    conformance_reads.ServerReads,
    conformance_cluster.Init,
    conformance_cluster.Cluster,
    conformance_resize.Add,
    conformance_http.Bodies,
    conformance_http.Paths,
):
    """All of the contract that one table is enough for."""


class Removal(conformance_resize.Remove):
    """What needs a server more than copies."""
