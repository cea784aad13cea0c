"""Getting commands of one group committed: find the leader, try again elsewhere, until a deadline.

Each command is sent as it is, however often; that it is applied once is the business of the session inside it. A
refusal that is certain keeps the outcome "not applied"; a lost reply makes it unknown for good (RAFT_RULES 41), unless
a later attempt succeeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.outcome import NotApplied, OutcomeUnknown, Unanswered
from dbnode.wire import (
    INVALID,
    NO_REPLICA,
    NOT_LEADER,
    STALE_SEQUENCE,
    TOO_LARGE,
    UNAVAILABLE,
    UNKNOWN_SESSION,
    Applied,
    Propose,
    Refused,
    Reply,
    Request,
)

#: How long one attempt may take before another server is asked where the leader is; several election timeouts.
ATTEMPT_SECONDS = 2.0
#: A longer command is on its way for as long as its connection stands: to send it once more would only add to what
#: keeps its leader from answering. A leader that lost its office says so; a stopped process lets its connections drop.
RESENT_BYTES_MAX = 256 << 10
#: Pauses between rounds of attempts: long enough to cost nothing, short enough to see a new leader at once.
PAUSE_SECONDS_MIN = 0.020
PAUSE_SECONDS_MAX = 0.050

#: Refusals that no other server and no later attempt would take back.
_FINAL = frozenset((UNKNOWN_SESSION, STALE_SEQUENCE, INVALID, TOO_LARGE))


class Asker(Protocol):
    """What is needed of dbnode.client.requests.Requests."""

    def ask(self, server: str, build: Callable[[int], Request], timeout_seconds: float) -> Deferred[Reply]:
        """Send one request to one server."""


class Proposal:
    """One command on its way. `outcome` fires with Applied, or fails with NotApplied or OutcomeUnknown."""

    __slots__ = ("asked", "command", "deadline_seconds", "doubtful", "hops", "last_refusal", "outcome", "waiting")

    def __init__(self, command: bytes, deadline_seconds: float) -> None:
        self.command = command
        self.deadline_seconds = deadline_seconds
        self.outcome: Deferred[Applied] = Deferred()
        #: An attempt was sent and neither answered nor given up.
        self.waiting = False
        #: An earlier attempt ended without a certain answer.
        self.doubtful = False
        #: Attempts since the last pause, and whom the last one asked.
        self.hops = 0
        self.asked = ""
        self.last_refusal = ""

    @property
    def maybe_applied(self) -> bool:
        """Whether the command may be in some log by now."""
        return self.waiting or self.doubtful


class Proposals:
    """The commands of one group that are being proposed. `servers` holds the names of those with a replica."""

    def __init__(
        self, clock: IReactorTime, requests: Asker, rng: random.Random, group_id: int, servers: Sequence[str]
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._rng = rng
        self._group_id = group_id
        self._servers = list(servers)
        self._next = 0
        self._pausing: list[Proposal] = []
        self._pause_call: IDelayedCall | None = None
        self._stopped = False
        #: The server believed to lead, "" if none is known.
        self.leader = ""

    def set_servers(self, servers: Sequence[str]) -> None:
        """Replace the servers to ask; a leader that is not among them is forgotten."""
        self._servers = list(servers)
        if self.leader not in self._servers:
            self.leader = ""

    def propose(self, command: bytes, deadline_seconds: float) -> Proposal:
        """Send a command to the leader, wherever it is, until `deadline_seconds` on the clock."""
        proposal = Proposal(command, deadline_seconds)
        self._attempt(proposal)
        return proposal

    def withdraw(self, proposal: Proposal) -> None:
        """Make no further attempt for a proposal that is certainly not applied; its outcome never fires."""
        assert not proposal.maybe_applied
        self._pausing.remove(proposal)

    def stop(self) -> None:
        """Give up everything (the process ends)."""
        self._stopped = True
        if self._pause_call is not None:
            self._pause_call.cancel()
            self._pause_call = None
        pausing, self._pausing = self._pausing, []
        for proposal in pausing:
            _give_up(proposal, "this process stops")

    def _attempt(self, proposal: Proposal) -> None:
        remaining_seconds = proposal.deadline_seconds - self._clock.seconds()
        if remaining_seconds <= 0:
            _give_up(proposal, proposal.last_refusal or "no answer in time")
            return
        timeout_seconds = remaining_seconds
        if len(proposal.command) <= RESENT_BYTES_MAX:
            timeout_seconds = min(remaining_seconds, ATTEMPT_SECONDS)
        proposal.asked = self._server_to_ask()
        proposal.waiting = True

        def build(request_id: int) -> Request:
            return Propose(request_id, self._group_id, proposal.command, int(remaining_seconds * 1000))

        reply = self._requests.ask(proposal.asked, build, timeout_seconds)
        ended = reply.addCallbacks(self._answered, self._unanswered, callbackArgs=(proposal,), errbackArgs=(proposal,))
        in_background(ended, "a proposal")

    def _server_to_ask(self) -> str:
        if self.leader:
            return self.leader
        if not self._servers:
            return ""
        return self._servers[self._next % len(self._servers)]

    def _answered(self, reply: Reply, proposal: Proposal) -> None:
        proposal.waiting = False
        if isinstance(reply, Applied):
            self.leader = proposal.asked
            proposal.outcome.callback(reply)
            return
        assert isinstance(reply, Refused)
        proposal.doubtful = proposal.doubtful or reply.maybe_applied
        proposal.last_refusal = f"{proposal.asked}: {reply.message}"
        if reply.code in _FINAL:
            failure = OutcomeUnknown if proposal.doubtful else NotApplied
            proposal.outcome.errback(failure(reply.code, reply.message))
            return
        self._look_elsewhere(proposal.asked, reply.leader)
        self._again(proposal, at_once=reply.code == NO_REPLICA or (reply.code == NOT_LEADER and self.leader != ""))

    def _unanswered(self, failure: Failure, proposal: Proposal) -> None:
        proposal.waiting = False
        error = failure.value
        assert isinstance(error, Unanswered), failure
        proposal.doubtful = proposal.doubtful or error.sent
        # What a server said is worth more than silence.
        proposal.last_refusal = proposal.last_refusal or error.text
        self._look_elsewhere(proposal.asked, "")
        self._again(proposal, at_once=not error.sent)

    def _look_elsewhere(self, asked: str, hint: str) -> None:
        if hint in self._servers and hint != asked:
            self.leader = hint
        elif self.leader in ("", asked):
            self.leader = ""
            # The one after it, not merely another place: a leader that somebody named may stand at the next place.
            self._next = (self._servers.index(asked) if asked in self._servers else self._next) + 1

    def _again(self, proposal: Proposal, *, at_once: bool) -> None:
        if self._stopped:
            _give_up(proposal, "this process stops")
            return
        proposal.hops += 1
        if at_once and proposal.hops <= len(self._servers):
            self._attempt(proposal)
            return
        proposal.hops = 0
        self._pausing.append(proposal)
        if self._pause_call is None:
            pause_seconds = self._rng.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)
            self._pause_call = self._clock.callLater(pause_seconds, self._resume)

    def _resume(self) -> None:
        self._pause_call = None
        pausing, self._pausing = self._pausing, []
        for proposal in pausing:
            self._attempt(proposal)


def _give_up(proposal: Proposal, text: str) -> None:
    failure = OutcomeUnknown if proposal.doubtful else NotApplied
    proposal.outcome.errback(failure(UNAVAILABLE, text))
