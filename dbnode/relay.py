"""Passing a proposal on to the leader, for an asker that cannot reach it: once, and never further.

What comes back is what the leader said, under the number of the asker's own request. A server that has no connection
to the leader either says so at once: most often that one is dead, and soon another leads.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from dbnode.client.outcome import Unanswered
from dbnode.client.requests import Asker
from dbnode.wire import LOST, UNAVAILABLE, Propose, Refused, Reply, Request


class Relay:
    """Uses the requests of this server. `is_connected` tells whether it has a connection to another one."""

    def __init__(self, requests: Asker, is_connected: Callable[[str], bool]) -> None:
        self._requests = requests
        self._is_connected = is_connected

    def pass_on(self, item: Propose) -> Deferred[Reply]:
        """Send a proposal to the server that it names; fires with the answer for its asker."""
        if not self._is_connected(item.relay):
            return succeed(Refused(item.request_id, UNAVAILABLE, f"{item.relay} is not connected", maybe_applied=False))

        def build(request_id: int) -> Request:
            return Propose(request_id, item.group_id, item.command, item.timeout_ms)

        def answered(reply: Reply) -> Reply:
            return msgspec.structs.replace(reply, request_id=item.request_id)

        def unanswered(failure: Failure) -> Reply:
            error = failure.value
            assert isinstance(error, Unanswered), failure
            code = LOST if error.sent else UNAVAILABLE
            return Refused(item.request_id, code, f"{item.relay}: {error.text}", maybe_applied=error.sent)

        asked = self._requests.ask(item.relay, build, item.timeout_ms / 1000)
        return asked.addCallbacks(answered, unanswered)
