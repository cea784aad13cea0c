"""A client that knows what its rows must be: nobody else touches them, so every answer can be judged at once.

Each row begins with an insert under an id never used before, and each value is used once. What is lost is missed by
the next read or change of the row; what is applied twice is a duplicate, a row not found, or an old value come back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from dbnode.client import NotApplied, OutcomeUnknown, ReadChannel, ShardSession, Unavailable
from dbnode.testing.clients import Target
from dbnode.wire import Delete, Done, Operation, Result, Rows, Stored, Update, Write

#: Rows that a writer has before it begins to change them.
_ROWS_MIN = 10


class Violation(AssertionError):
    """A server broke its promise."""


class Writer:
    """Inserts, updates, reads and deletes rows of its own until told to finish; `ids` are for this writer alone.

    A cluster's writers of one group may share the session.
    """

    def __init__(
        self, target: Target, session: ShardSession, reads: ReadChannel, rng: random.Random, ids: Iterator[int]
    ) -> None:
        self._target = target
        self._session = session
        self._reads = reads
        self._rng = rng
        self._ids = ids
        self._values = 0
        self._alive: list[int] = []
        self._finishing = False
        #: What each row must be, None if it must be gone.
        self.certain: dict[int, str | None] = {}
        #: What each row may be whose last change has an unknown outcome; it is not touched again.
        self.doubtful: dict[int, set[str | None]] = {}

    def finish(self) -> None:
        """Let `run` return after what it is at."""
        self._finishing = True

    async def run(self) -> None:
        """Do one thing after the other. Raises Violation."""
        while not self._finishing:
            await self._do_something()
            pause_seconds = self._rng.expovariate(1 / self._target.think_seconds)
            await deferLater(self._target.clock, pause_seconds)

    async def _do_something(self) -> None:
        chance = self._rng.random()
        if chance < 0.4 or len(self._alive) < _ROWS_MIN:
            id_ = next(self._ids)
            value = self._new_value(id_)
            await self._change(id_, Write(((id_, value),)), value)
            return
        id_ = self._take_one()
        if chance < 0.6:
            value = self._new_value(id_)
            await self._change(id_, Update(id_, {1: value}), value)
        elif chance < 0.7:
            await self._change(id_, Delete(id_), None)
        else:
            await self._read(id_)
            self._alive.append(id_)

    def _new_value(self, id_: int) -> str:
        self._values += 1
        return f"{id_}:{self._values}"

    def _take_one(self) -> int:
        """Return a row that exists for certain, and forget it for now."""
        place = self._rng.randrange(len(self._alive))
        self._alive[place], self._alive[-1] = self._alive[-1], self._alive[place]
        return self._alive.pop()

    async def _change(self, id_: int, operation: Operation, value: str | None) -> None:
        before = self.certain.get(id_)
        try:
            result = await self._submit(operation)
        except NotApplied:
            self._target.happened["changes refused"] += 1
        except OutcomeUnknown:
            self._target.happened["outcomes unknown"] += 1
            self.certain.pop(id_, None)
            self.doubtful[id_] = {before, value}
            return
        else:
            self._target.happened["changes acknowledged"] += 1
            if not isinstance(result, Stored | Done):
                raise Violation(f"{operation} of a row that was {before!r}: {result}")
            self.certain[id_] = value
        if self.certain.get(id_) is not None:
            self._alive.append(id_)

    def _submit(self, operation: Operation) -> Deferred[Result]:
        return self._session.submit(operation, self._target.timeout_seconds)

    async def _read(self, id_: int) -> None:
        target = self._target
        servers = self._rng.sample(target.servers, len(target.servers))
        try:
            rows = await self._reads.read(target.group_id, servers, id_, id_, timeout_seconds=target.timeout_seconds)
        except Unavailable:
            target.happened["reads failed"] += 1
            return
        target.happened["reads answered"] += 1
        if _values(rows) != {id_: self.certain[id_]}:
            raise Violation(f"read {_values(rows)} where row {id_} must be {self.certain[id_]!r}")


def _values(rows: Rows) -> dict[int, str]:
    return {row["id"]: row["value"] for row in msgspec.json.decode(b"[" + rows.data + b"]")}
