"""Real servers killed a few times under load; slow_kill_loop does it hundreds of times."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dbnode.testing.kill_loop import KillLoop


class KillLoopTests(TestCase):
    timeout = 120

    def test_nothing_acknowledged_is_lost(self) -> Deferred[None]:
        """Under `kill -9` nothing acknowledged is lost, nothing is applied twice, and replicas end up equal."""
        from twisted.internet import reactor

        loop = KillLoop(reactor, Path(self.mktemp()).absolute(), seed=1, kills=6)

        ran = Deferred.fromCoroutine(loop.run())

        return ran.addCallback(lambda _: self.assertGreater(loop.happened["changes acknowledged"], 0))
