"""The HTTP contract against each kind of balancer there is in memory; slow_conformance has one that runs."""

from __future__ import annotations

from pathlib import Path

from lbnode.test import contract
from lbnode.test.cluster import Cluster
from lbnode.test.door import Door, MemoryDoor
from lbnode.test.memory_balancer import MemoryBalancer


class _BehindKlein(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(direct=False))


class _InFrontOfKlein(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(direct=True))


class BehindKlein(_BehindKlein, contract.Contract):
    """Every endpoint as a Klein route, over shards in memory."""


class BehindKleinRemoval(_BehindKlein, contract.Removal):
    """The same, when servers go."""


class BehindKleinBeforeInit(_BehindKlein, contract.BeforeInit):
    """The same, without a table."""


class InFrontOfKlein(_InFrontOfKlein, contract.Contract):
    """The data requests served without Klein, the others by it."""


class InFrontOfKleinRemoval(_InFrontOfKlein, contract.Removal):
    """The same, when servers go."""


class InFrontOfKleinBeforeInit(_InFrontOfKlein, contract.BeforeInit):
    """The same, without a table."""


class _Cluster(contract.ConformanceCase):
    def open(self) -> Door:
        cluster = Cluster(Path(self.mktemp()))
        self.addCleanup(cluster.stop)
        return MemoryDoor(cluster.clock, cluster.site(direct=True))


class WholeCluster(_Cluster, contract.Contract):
    """The real balancer over real servers, in memory."""


class WholeClusterRemoval(_Cluster, contract.Removal):
    """The same, when servers go."""


class WholeClusterBeforeInit(_Cluster, contract.BeforeInit):
    """The same, without a table."""
