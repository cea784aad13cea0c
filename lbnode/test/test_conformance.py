"""The HTTP contract against each kind of balancer there is in memory; slow_conformance has one that runs."""

from __future__ import annotations

from pathlib import Path

from lbnode.test import contract
from lbnode.test.balancers import pass_time
from lbnode.test.cluster import Cluster
from lbnode.test.door import Door, MemoryDoor
from lbnode.test.followed_cluster import FollowedCluster
from lbnode.test.memory_balancer import MemoryBalancer

#: So many bytes of a request arrive one by one in the suites for that: every head, and what is of interest of a body.
_TRICKLING = 600


class _Klein(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(lean=False))


class _Lean(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(lean=True))


class _TricklingKlein(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(lean=False), trickling=_TRICKLING)


class _TricklingLean(contract.ConformanceCase):
    def open(self) -> Door:
        balancer = MemoryBalancer()
        return MemoryDoor(balancer.clock, balancer.site(lean=True), trickling=_TRICKLING)


class Klein(_Klein, contract.Contract):
    """Every endpoint as a Klein route, over shards in memory."""


class KleinRemoval(_Klein, contract.Removal):
    """The same, when servers go."""


class KleinBeforeInit(_Klein, contract.BeforeInit):
    """The same, without a table."""


class TricklingKlein(_TricklingKlein, contract.Contract):
    """The same, for requests that come byte by byte."""


class Lean(_Lean, contract.Contract):
    """The data requests served by the lean lane, the others by Klein."""


class LeanRemoval(_Lean, contract.Removal):
    """The same, when servers go."""


class LeanBeforeInit(_Lean, contract.BeforeInit):
    """The same, without a table."""


class TricklingLean(_TricklingLean, contract.Contract):
    """The same, for requests that come byte by byte."""


class _Cluster(contract.ConformanceCase):
    def open(self) -> Door:
        cluster = Cluster(Path(self.mktemp()))
        self.addCleanup(cluster.stop)
        return MemoryDoor(cluster.clock, cluster.site(lean=True))


class WholeCluster(_Cluster, contract.Contract):
    """The real balancer over real servers, in memory."""


class WholeClusterRemoval(_Cluster, contract.Removal):
    """The same, when servers go."""


class WholeClusterBeforeInit(_Cluster, contract.BeforeInit):
    """The same, without a table."""


class _Follower(contract.ConformanceCase):
    def open(self) -> Door:
        cluster = FollowedCluster(Path(self.mktemp()))
        self.addCleanup(cluster.stop)
        pass_time(cluster.clock, until=lambda: cluster.follower.following.catalog is not None)
        return MemoryDoor(cluster.clock, cluster.follower_site())


class ThroughFollower(_Follower, contract.Contract):
    """A follower of the real balancer."""


class ThroughFollowerRemoval(_Follower, contract.Removal):
    """The same, when servers go."""


class ThroughFollowerBeforeInit(_Follower, contract.BeforeInit):
    """The same, without a table."""
