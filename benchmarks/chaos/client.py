"""One client: takes its steps one after the other and tells the history what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import deferLater

from benchmarks.chaos.history import History
from benchmarks.chaos.keys import Keys
from benchmarks.chaos.operations import BEYOND, Outcome, Request, Step, What, delete, insert, read, update
from benchmarks.chaos.pauses import Pauses
from benchmarks.door import Door, NotConnectedError, UnreachableError
from benchmarks.workloads import Record

#: Longer than the balancer holds a request: what takes longer than this hangs.
_DEADLINE_SECONDS = 20.0
#: A client that cannot connect waits this long before its next step.
_REFUSED_SECONDS = 0.2
_MARKS = 101


@dataclass(frozen=True, slots=True)
class Desk:
    """What all clients share. `fault` says what is the matter just now."""

    door: Door
    keys: Keys
    history: History
    pauses: Pauses
    clock: Callable[[], float]
    fault: Callable[[], str]


class Client:
    """A client of that name, with its own steps."""

    def __init__(self, reactor: Any, desk: Desk, name: str, steps: Iterator[Step]) -> None:
        self._reactor = reactor
        self._desk = desk
        self._name = name
        self._steps = steps
        self._stopping = False

    def stop(self) -> None:
        """Take no further step; the one under way comes to its end."""
        self._stopping = True

    async def run(self) -> None:
        """Take steps until told to stop. Raises TableFullError if there are no ids left."""
        for step in self._steps:
            if self._stopping:
                return
            await self.perform(self._request(step))
            await deferLater(self._reactor, step.think_seconds)

    async def perform(self, request: Request) -> Outcome:
        """Send one request and record what became of it."""
        desk = self._desk
        shards = desk.keys.shards_of(request.low, request.high)
        invoked = desk.clock()
        desk.pauses.began(shards, invoked)
        outcome = await self._ask(request)
        returned = desk.clock()
        desk.pauses.ended(shards, returned, succeeded=not outcome.error, fault=desk.fault())
        desk.history.record(request, outcome, invoked, returned, self._name)
        for row_id in outcome.unknown:
            desk.keys.became_unknown(row_id)
        return outcome

    async def _ask(self, request: Request) -> Outcome:
        try:
            answer = await self._desk.door.ask(
                request.method, request.path, request.body, deadline_seconds=_DEADLINE_SECONDS
            )
        except NotConnectedError:
            await deferLater(self._reactor, _REFUSED_SECONDS)
            return request.unanswered(sent=False)
        except UnreachableError:
            return request.unanswered(sent=True)
        return request.outcome(answer)

    def _request(self, step: Step) -> Request:
        keys = self._desk.keys
        match step.what:
            case What.RANGE:
                return self._range(step)
            case What.STORE | What.STORE_MANY:
                return self._store(step)
            case What.FIND:
                return self._find(step)
            case What.READ:
                row_id = keys.hot(step.slot)
                return read(step.what, row_id, row_id, [row_id])
            case What.UPDATE:
                return update(_record(keys.hot(step.slot), step))
            case What.INSERT:
                return insert(step.what, [_record(keys.hot(step.slot), step)])
            case What.DELETE:
                return delete(keys.hot(step.slot))

    def _range(self, step: Step) -> Request:
        """Read the hot rows of a shard and what lies between them and the first rows of the next shard."""
        keys = self._desk.keys
        ids = keys.neighbours(step.slot)
        top = next(shard.ids()[-1] for shard in keys.shards if ids[0] in shard.ids())
        known = self._desk.history.expected().stored
        beyond = [row_id for row_id in range(top + 1, top + 1 + BEYOND) if row_id in known]
        return read(step.what, ids[0], top + BEYOND, ids + beyond)

    def _store(self, step: Step) -> Request:
        """Store fresh rows, of one shard or one of each; once there are no ids left, read one."""
        places = range(len(self._desk.keys.shards))
        chosen = places if step.what is What.STORE_MANY else [step.slot % len(places)]
        ids = [row_id for place in chosen if (row_id := self._desk.keys.fresh(place)) is not None]
        return insert(step.what, [_record(row_id, step) for row_id in ids]) if ids else self._find(step)

    def _find(self, step: Step) -> Request:
        """Read a fresh row, a late one more likely than an early one; a hot one while there is none."""
        stored = self._desk.history.stored_ids
        row_id = stored[-1 - int(step.pick**3 * len(stored))] if stored else self._desk.keys.hot(step.slot)
        return read(What.FIND, row_id, row_id, [row_id])


def _record(row_id: int, step: Step) -> Record:
    return Record(row_id, step.value, int(step.pick * _MARKS))
