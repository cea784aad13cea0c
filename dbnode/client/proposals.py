"""Getting commands of one group committed: find the leader, try again elsewhere, until a deadline.

Each command is sent as it is, however often; that it is applied once is the business of the session inside it. A
refusal that is certain keeps the outcome "not applied"; a lost reply makes it unknown for good (RAFT_RULES 41), unless
a later attempt succeeds.

A leader that is gone refuses connections, but one that is paused or cut off only leaves its commands without an answer,
as one that is busy does. After a while all servers are asked who leads (see dbnode.client.inquiry). If that is another
one by now, the commands go there at once. If it is still the same for the others, but has no answer for us even to that
question, it is our way to it that is broken, and one of the others passes the commands on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.client.inquiry import Inquiry
from dbnode.client.outcome import NotApplied, OutcomeUnknown, Unanswered
from dbnode.client.requests import Asker
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

#: How long a command waits until the servers are asked who leads; about an election timeout, after which that may
#: have changed. They are asked again after each sweep.
OVERDUE_SECONDS = 0.3
SWEEP_SECONDS = 0.1
#: How long a server that did not answer even a question is asked through others only.
UNREACHABLE_SECONDS = 2.0
#: How long one attempt may take before another server is tried, although nobody says that it leads.
ATTEMPT_SECONDS = 2.0
#: A longer command is on its way for as long as its connection stands: to send it once more would only add to what
#: keeps its leader from answering, unless another one leads by now. A leader that lost its office says so.
RESENT_BYTES_MAX = 256 << 10
#: Pauses between rounds of attempts: long enough to cost nothing, short enough to see a new leader at once.
PAUSE_SECONDS_MIN = 0.020
PAUSE_SECONDS_MAX = 0.050

#: Refusals that no other server and no later attempt would take back.
_FINAL = frozenset((UNKNOWN_SESSION, STALE_SEQUENCE, INVALID, TOO_LARGE))


class Proposal:
    """One command on its way. `outcome` fires with Applied, or fails with NotApplied or OutcomeUnknown."""

    __slots__ = (
        "asked",
        "attempt",
        "began_seconds",
        "command",
        "deadline_seconds",
        "doubtful",
        "hops",
        "last_refusal",
        "leader",
        "outcome",
        "waiting",
    )

    def __init__(self, command: bytes, deadline_seconds: float) -> None:
        self.command = command
        self.deadline_seconds = deadline_seconds
        self.outcome: Deferred[Applied] = Deferred()
        #: An attempt was sent and neither answered nor given up; counted, and when the last one began.
        self.waiting = False
        self.attempt = 0
        self.began_seconds = 0.0
        #: An earlier attempt ended without a certain answer.
        self.doubtful = False
        #: Attempts since the last pause, whom the last one asked, and who was to take the command there.
        self.hops = 0
        self.asked = ""
        self.leader = ""
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
        self._inquiry = Inquiry(requests, group_id, self._heard)
        self._next = 0
        #: In the order in which their attempts began.
        self._waiting: dict[Proposal, None] = {}
        self._sweep_call: IDelayedCall | None = None
        self._pausing: list[Proposal] = []
        self._pause_call: IDelayedCall | None = None
        self._stopped = False
        #: The server believed to lead, "" if none is known, and who said so last.
        self.leader = ""
        self._informant = ""
        #: Until when each server is not asked directly.
        self._unreachable: dict[str, float] = {}

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
        for call in (self._pause_call, self._sweep_call):
            if call is not None:
                call.cancel()
        self._pause_call = self._sweep_call = None
        pausing, self._pausing = self._pausing, []
        for proposal in pausing:
            _give_up(proposal, "this process stops")

    # ---- attempts -----------------------------------------------------------------------------------------------

    def _attempt(self, proposal: Proposal) -> None:
        now_seconds = self._clock.seconds()
        remaining_seconds = proposal.deadline_seconds - now_seconds
        if remaining_seconds <= 0:
            _give_up(proposal, proposal.last_refusal or "no answer in time")
            return
        timeout_seconds = remaining_seconds
        if len(proposal.command) <= RESENT_BYTES_MAX:
            timeout_seconds = min(remaining_seconds, ATTEMPT_SECONDS)
        proposal.leader = self._server_to_ask()
        proposal.asked = self._way_to(proposal.leader)
        proposal.waiting = True
        proposal.attempt += 1
        proposal.began_seconds = now_seconds
        self._waiting[proposal] = None
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)

        def build(request_id: int) -> Request:
            relay = proposal.leader if proposal.asked != proposal.leader else ""
            return Propose(request_id, self._group_id, proposal.command, int(remaining_seconds * 1000), relay)

        reply = self._requests.ask(proposal.asked, build, timeout_seconds)
        about = (proposal, proposal.attempt)
        ended = reply.addCallbacks(self._answered, self._unanswered, callbackArgs=about, errbackArgs=about)
        in_background(ended, "a proposal")

    def _server_to_ask(self) -> str:
        if self.leader:
            return self.leader
        if not self._servers:
            return ""
        return self._servers[self._next % len(self._servers)]

    def _way_to(self, leader: str) -> str:
        """Return whom to ask so that a command comes to the leader: that one, or who shall pass it on."""
        if self._unreachable.get(leader, 0.0) <= self._clock.seconds():
            self._unreachable.pop(leader, None)
            return leader
        return self._informant if self._informant in self._servers else leader

    def _answered(self, reply: Reply, proposal: Proposal, attempt: int) -> None:
        if proposal.outcome.called:
            return
        latest = attempt == proposal.attempt
        if isinstance(reply, Applied):
            # An attempt that was given up counts as well, but its leader may have lost its office since.
            if latest:
                self.leader = proposal.leader
            elif proposal in self._pausing:
                self._pausing.remove(proposal)
            self._end(proposal)
            proposal.outcome.callback(reply)
            return
        if not latest:
            return
        assert isinstance(reply, Refused)
        self._end(proposal)
        proposal.doubtful = proposal.doubtful or reply.maybe_applied
        proposal.last_refusal = f"{proposal.asked}: {reply.message}"
        if reply.code in _FINAL:
            failure = OutcomeUnknown if proposal.doubtful else NotApplied
            proposal.outcome.errback(failure(reply.code, reply.message))
            return
        self._look_elsewhere(proposal.asked, reply.leader)
        self._again(proposal, at_once=reply.code == NO_REPLICA or (reply.code == NOT_LEADER and self.leader != ""))

    def _unanswered(self, failure: Failure, proposal: Proposal, attempt: int) -> None:
        error = failure.value
        assert isinstance(error, Unanswered), failure
        if proposal.outcome.called or attempt != proposal.attempt:
            return
        self._end(proposal)
        proposal.doubtful = proposal.doubtful or error.sent
        # What a server said is worth more than silence.
        proposal.last_refusal = proposal.last_refusal or error.text
        self._unreachable[proposal.asked] = self._clock.seconds() + UNREACHABLE_SECONDS
        self._look_elsewhere(proposal.asked, "")
        self._again(proposal, at_once=not error.sent)

    def _end(self, proposal: Proposal) -> None:
        proposal.waiting = False
        self._waiting.pop(proposal, None)

    def _look_elsewhere(self, asked: str, hint: str) -> None:
        if hint in self._servers and hint != asked:
            self.leader, self._informant = hint, asked
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

    # ---- what takes too long ------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Ask who leads while an attempt takes too long."""
        self._sweep_call = None
        if not self._waiting:
            return
        self._sweep_call = self._clock.callLater(SWEEP_SECONDS, self._sweep)
        if self._overdue():
            self._inquiry.ask(self._servers)

    def _overdue(self) -> list[Proposal]:
        latest = self._clock.seconds() - OVERDUE_SECONDS
        return [proposal for proposal in self._waiting if proposal.began_seconds <= latest]

    def _heard(self, leader: str, informant: str) -> None:
        """Take the answer to a question: what waits at a server that is not the leader goes to the one that is."""
        self._unreachable.pop(informant, None)
        if self._stopped or leader not in self._servers:
            return
        unheard = leader in self._inquiry.silent
        if leader != informant:
            self._informant = informant
            if unheard:
                self._unreachable[leader] = self._clock.seconds() + UNREACHABLE_SECONDS
        for proposal in self._overdue():
            passed_on = unheard and proposal.asked == leader and len(proposal.command) <= RESENT_BYTES_MAX
            if proposal.leader != leader or passed_on:
                self.leader = leader
                self._end(proposal)
                proposal.doubtful = True
                self._attempt(proposal)


def _give_up(proposal: Proposal, text: str) -> None:
    failure = OutcomeUnknown if proposal.doubtful else NotApplied
    proposal.outcome.errback(failure(UNAVAILABLE, text))
