"""Request bodies for agents in memory (treq.testing), which take no body that comes later."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
class Body:
    """A request body that is there at once."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write everything."""
        consumer.write(self.body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Do nothing: it is over before it could be stopped."""

    def pauseProducing(self) -> None:
        """Do nothing, as above."""

    def resumeProducing(self) -> None:
        """Do nothing, as above."""
