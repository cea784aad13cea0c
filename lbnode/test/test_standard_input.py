"""Hearing that standard input ended, on a pipe like a worker's."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from lbnode.standard_input import StandardInput


class StandardInputTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        """Watch a pipe."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        read_end, self.write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        self.ended: Deferred[None] = Deferred()
        self.input = StandardInput(reactor, lambda: self.ended.callback(None), read_end)
        self.input.watch()
        self.addCleanup(self.input.forget)

    async def test_an_end(self) -> None:
        """It is told of once nobody can write any more."""
        os.close(self.write_end)

        await self.ended

    async def test_what_is_written_is_no_end(self) -> None:
        """Whatever comes is thrown away; the end comes later."""
        os.write(self.write_end, b"anything")
        await deferLater(self.reactor, 0.05)
        self.assertFalse(self.ended.called)

        os.close(self.write_end)

        await self.ended

    async def test_who_stops_hears_nothing(self) -> None:
        """Nothing is told once it is not watched any more."""
        self.input.forget()
        os.close(self.write_end)

        await deferLater(self.reactor, 0.05)

        self.assertFalse(self.ended.called)
