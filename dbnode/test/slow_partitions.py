"""Real servers whose network is broken: packets lost between namespaces, streams held by proxies. `make test-slow`."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from dbnode.testing import breaks
from dbnode.testing.breaks import Break
from dbnode.testing.networks import NamespaceNetwork, Network, ProxyNetwork
from dbnode.testing.partition import Partitions, table
from raftlog.testing.namespaces import NamespacesUnavailable


class PartitionTests(TestCase):
    """Whatever is broken, nothing is lost, and it heals by itself; SEED=n decides what clients do."""

    timeout = 300

    def setUp(self) -> None:
        """Choose where the data goes."""
        self.directory = Path(self.mktemp()).absolute()

    async def break_in(self, network: Network, ways: Sequence[Break]) -> None:
        """Break a cluster in these ways, and show who waited for how long."""
        from twisted.internet import reactor

        seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
        run = Partitions(reactor, self.directory, seed, network)
        try:
            await run.run(ways)
        except NamespacesUnavailable as reason:
            raise SkipTest(str(reason)) from reason
        finally:
            happened = ", ".join(f"{what} {number}" for what, number in sorted(run.happened.items()))
            sys.stdout.write("\n".join(["", f"seed {seed}: {happened}", *table(run.pauses), ""]))

    async def test_cut_off(self) -> None:
        """A server is alone for a while, with the client beside it or without, or all servers are."""
        from twisted.internet import reactor

        ways = (breaks.FOLLOWER, breaks.LEADER, breaks.LEADER_ALONE, breaks.EVERYBODY)
        await self.break_in(NamespaceNetwork(reactor), ways)

    async def test_some_ways(self) -> None:
        """Packets get lost in one direction only, or between some places only, or now and then."""
        from twisted.internet import reactor

        ways = (breaks.MUTE, breaks.DEAF, breaks.PAIR, breaks.DOOR, breaks.FLAPPING, breaks.LOSSY)
        await self.break_in(NamespaceNetwork(reactor), ways)

    async def test_streams(self) -> None:
        """Streams are late, narrow, out of order among each other, or silent although their connections stand."""
        from twisted.internet import reactor

        ways = (breaks.SLOW, breaks.NARROW, breaks.LEADER, breaks.DATA_OF_ONE, breaks.DATA, breaks.CONTROL)
        await self.break_in(ProxyNetwork(reactor, random.Random(1)), ways)
