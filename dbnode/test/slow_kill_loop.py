"""Real servers killed hundreds of times under load: `make test-slow`, some minutes.

SEED=n chooses victims and pauses (the default is another one each time), KILLS=n how many.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dbnode.testing.kill_loop import KillLoop


class SlowKillLoopTests(TestCase):
    timeout = 1200

    def test_nothing_acknowledged_is_lost(self) -> Deferred[None]:
        """Under 200 kills nothing acknowledged is lost, nothing is applied twice, and replicas end up equal."""
        from twisted.internet import reactor

        seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
        kills = int(os.environ.get("KILLS") or 200)
        began = reactor.seconds()
        loop = KillLoop(reactor, Path(self.mktemp()).absolute(), seed, kills)

        ran = Deferred.fromCoroutine(loop.run())

        def show(outcome: object) -> object:
            seconds = reactor.seconds() - began
            told = [f"seed {seed}, {seconds:.0f} s:", *(f"  {what}: {n}" for what, n in sorted(loop.happened.items()))]
            sys.stdout.write("\n" + "\n".join(told) + "\n")
            return outcome

        return ran.addBoth(show).addCallback(lambda _: self.assertGreater(loop.happened["changes acknowledged"], kills))
