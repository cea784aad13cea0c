"""Asking the servers of a group who leads it, while a leader leaves its askers without an answer.

A question costs nothing but two small messages, unlike a command that is sent once more; so it can be asked long
before a command is given up. An answer from an older term than one that was heard already is not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.outcome import RequestFailed
from dbnode.client.requests import Asker
from dbnode.wire import Leader, Reply, Request, WhoLeads

#: How long an answer is waited for: one election timeout, after which somebody else may lead.
ANSWER_SECONDS = 0.3


class Inquiry:
    """The questions about one group.

    `heard` is called with each answer, (leader, who says so); "" for a leader that is not known or not to be believed.
    """

    def __init__(self, requests: Asker, group_id: int, heard: Callable[[str, str], None]) -> None:
        self._requests = requests
        self._group_id = group_id
        self._heard = heard
        self._term = 0
        self._asked: set[str] = set()
        #: Those that left the last question put to them without an answer.
        self.silent: set[str] = set()

    def ask(self, servers: Iterable[str]) -> None:
        """Ask each of the servers that has no question of ours before it already."""
        for server in servers:
            if server not in self._asked:
                self._asked.add(server)
                reply = self._requests.ask(server, self._build, ANSWER_SECONDS)
                ended = reply.addCallbacks(
                    self._answered, self._unanswered, callbackArgs=(server,), errbackArgs=(server,)
                )
                in_background(ended, "asking who leads")

    def _build(self, request_id: int) -> Request:
        return WhoLeads(request_id, self._group_id)

    def _answered(self, reply: Reply, server: str) -> None:
        self._asked.discard(server)
        self.silent.discard(server)
        leader = ""
        if isinstance(reply, Leader) and reply.term >= self._term:
            self._term, leader = reply.term, reply.server
        self._heard(leader, server)

    def _unanswered(self, failure: Failure, server: str) -> None:
        failure.trap(RequestFailed)
        self._asked.discard(server)
        self.silent.add(server)
