"""What a server does for a Tour: have its replicas testify and send it on, or back.

The server that the asker chose is where the tour returns to, as the others may have no connection to the asker. Its
number there is that of a request, of which no process that ran there before may have had the same (RAFT_RULES 26): the
answer comes from another server and may be late. Whoever is last evaluates what was testified, so that the way back is
short and the asker, who has most to do, does not have to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.outcome import Unanswered
from dbnode.client.requests import Asker, Sender
from dbnode.replypath import ReplyPath
from dbnode.wire import UNAVAILABLE, Answer, Question, ReadPositions, Refused, Reply, Request, Tour
from raftlog.link import Lane
from raftlog.node import Node
from raftlog.testimony import read_position

#: How long the rest of a tour is waited for, in seconds: longer than who asked for it does.
RETURN_SECONDS_MAX = 0.5


class Tours:
    """The part of the server `name`; `links` reach the other servers, and `requests` wait for what they answer.

    `leader_server` names the server that leads a group, "" if none is known.
    """

    def __init__(
        self, node: Node, name: str, links: Sender, requests: Asker, leader_server: Callable[[int], str]
    ) -> None:
        self._node = node
        self._leader_server = leader_server
        self._name = name
        self._links = links
        self._requests = requests

    def take(self, path: ReplyPath, tour: Tour) -> None:
        """Add what this server knows; then send the tour on."""
        if tour.sender:
            self._node.heard_of(tour.sender)
        tour = replace(tour, questions=tuple(map(self._asked, tour.questions)), sender=self._name)
        if tour.entry:
            self._send_on(tour)
        else:
            self._begin(path, tour)

    def _asked(self, question: Question) -> Question:
        testimony = self._node.testify(question.group_id)
        if testimony is None:
            return question
        leader, term = question.leader, question.term
        if testimony.term > term or not leader:
            leader, term = self._leader_server(question.group_id), testimony.term
        return Question(question.group_id, (*question.testimonies, testimony), leader, term)

    def _send_on(self, tour: Tour) -> None:
        for place, server in enumerate(tour.route, start=1):
            if self._links.send(server, Lane.DATA, replace(tour, route=tour.route[place:])):
                self._node.sent_to(server)
                return
        self._links.send(tour.entry, Lane.DATA, _found(tour))

    def _begin(self, path: ReplyPath, tour: Tour) -> None:
        """Send the tour on in our own name; what comes back is for `path`."""
        if not tour.route:
            path.send(_found(tour))
            return
        following = tour.route[0]
        rest = replace(tour, route=tour.route[1:])

        def build(request_id: int) -> Request:
            return replace(rest, request_id=request_id, entry=self._name)

        asked = self._requests.ask(following, build, RETURN_SECONDS_MAX)
        if not asked.called:
            self._node.sent_to(following)
        ended = asked.addCallbacks(partial(_returned, path, tour.request_id), partial(self._not_begun, path, rest))
        in_background(ended, "a tour")

    def _not_begun(self, path: ReplyPath, rest: Tour, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, Unanswered), failure
        if error.sent:
            path.send(Refused(rest.request_id, UNAVAILABLE, error.text))
        else:
            self._begin(path, rest)


def _returned(path: ReplyPath, request_id: int, reply: Reply) -> None:
    path.send(replace(reply, request_id=request_id))


def _found(tour: Tour) -> Reply:
    answers = [
        Answer(question.group_id, read_position(question.testimonies), question.leader) for question in tour.questions
    ]
    return ReadPositions(tour.request_id, tuple(answers))
