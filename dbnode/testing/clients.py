"""Clients of a shard under test: they write, read, and remember what they were told, for the checker.

Each is a real ShardSession and ReadChannel, and some of its reads may go with those of others. Values are unique, so a
change that happened twice, or was lost, or came back is seen by whoever reads.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dbnode.client.outcome import NotApplied, OutcomeUnknown, RequestFailed
from dbnode.client.reads import ReadChannel
from dbnode.client.requests import Asker
from dbnode.client.session import SessionOptions, ShardSession
from dbnode.testing.shared_reads import SharedReads
from dbnode.wire import ON_CONFLICT_REPLACE, Delete, Duplicate, NotFound, Result, Rows, Update, Write
from dbnode.wire import Operation as Change
from raftlog.testing.linearizability import ABSENT, Kind, Operation

KEYS = range(1, 6)
#: Mean seconds between the end of one thing and the next.
THINK_SECONDS = 0.06
#: How long an operation may take.
TIMEOUT_SECONDS = 3.0
#: Changes that are submitted in one turn, at most.
TOGETHER_MAX = 4
#: How often a client looks at once whether what it was told is there.
LOOK_SHARE = 0.2
#: How many of its reads go with those of others.
SHARED_SHARE = 0.5

_CHANGES = (Kind.INSERT, Kind.WRITE, Kind.UPDATE, Kind.UPDATE, Kind.DELETE)

History = list[tuple[Hashable, Operation]]


def _change(kind: Kind, key: int, value: str) -> Change:
    if kind is Kind.INSERT:
        return Write(((key, value),))
    if kind is Kind.WRITE:
        return Write(((key, value),), ON_CONFLICT_REPLACE)
    return Update(key, {1: value}) if kind is Kind.UPDATE else Delete(key)


@dataclass(frozen=True, slots=True)
class Target:
    """What clients use, and where they say what they saw of it."""

    clock: IReactorTime
    requests: Asker
    group_id: int
    servers: Sequence[str]
    happened: Counter[str]
    history: History = field(default_factory=list)
    #: How long an operation may take.
    timeout_seconds: float = 3.0
    #: Mean seconds between the end of one thing and the next.
    think_seconds: float = 0.08
    #: Where clients have their reads confirmed together, if they do.
    shared: SharedReads | None = None


class Client:
    """One client, which does something, waits for the end of it, thinks, and does something else."""

    def __init__(self, name: str, target: Target, rng: random.Random) -> None:
        self._name = name
        self._target = target
        self._clock = target.clock
        self._happened = target.happened
        self._history = target.history
        self._rng = rng
        self._reads = ReadChannel(self._clock, target.requests, self._rng)
        self._incarnation = 0
        self._values = 0
        self._waiting = 0
        self._finishing = False
        #: Whether its last read came to an end.
        self.is_done = False
        self._session = self._new_session()

    def _new_session(self) -> ShardSession:
        self._incarnation += 1
        return ShardSession(
            self._clock,
            self._target.requests,
            random.Random(self._rng.getrandbits(64)),
            group_id=self._target.group_id,
            client_name=f"{self._name}.{self._incarnation}",
            servers=self._target.servers,
            options=SessionOptions(batch_operations_max=TOGETHER_MAX),
        )

    def start(self) -> None:
        """Begin, soon."""
        self._clock.callLater(self._rng.expovariate(1 / self._target.think_seconds), self._next)

    def finish(self) -> None:
        """Do nothing more but, in the end, read everything until that succeeds."""
        self._finishing = True

    def _next(self) -> None:
        if self._finishing:
            self._read(KEYS[0], KEYS[-1])
            return
        what = self._rng.random()
        if what < 0.35:
            key = self._rng.choice(KEYS)
            self._read(key, key if what < 0.2 else KEYS[-1])
        elif what < 0.38:
            # The client dies and another one takes its place, which knows nothing of what it was doing.
            self._happened["client: restarted"] += 1
            self._session = self._new_session()
            self.start()
        else:
            for _ in range(self._rng.randint(1, TOGETHER_MAX)):
                self._write()

    def _ended(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.start()

    # ---- changes ----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        kind, key = self._rng.choice(_CHANGES), self._rng.choice(KEYS)
        self._values += 1
        value = f"{self._name}:{self._values}"
        self._waiting += 1
        record = self._recorder(kind, key, value)
        outcome = self._session.submit(_change(kind, key, value), self._target.timeout_seconds)
        _ = outcome.addCallbacks(self._changed, self._not_changed, (key, record), {}, (key, record))

    def _recorder(self, kind: Kind, key: int, argument: Hashable) -> Callable[[Hashable, bool], None]:
        invoked = self._clock.seconds()

        def record(result: Hashable, known: bool) -> None:
            operation = Operation(kind, argument, result, invoked, self._clock.seconds(), known, self._name)
            self._history.append((key, operation))

        return record

    def _changed(self, result: Result, key: int, record: Callable[[Hashable, bool], None]) -> None:
        self._happened["client: changes"] += 1
        record(not isinstance(result, Duplicate | NotFound), True)
        if self._rng.random() < LOOK_SHARE:
            self._read(key, key)
        self._ended()

    def _not_changed(self, failure: Failure, _: int, record: Callable[[Hashable, bool], None]) -> None:
        failure.trap(NotApplied, OutcomeUnknown)
        unknown = failure.check(OutcomeUnknown) is not None
        self._happened["client: outcomes unknown" if unknown else "client: changes refused"] += 1
        if unknown:
            record(None, False)
        self._ended()

    # ---- reads ------------------------------------------------------------------------------------------------

    def _read(self, low: int, high: int) -> None:
        self._waiting += 1
        target = self._target
        invoked = self._clock.seconds()
        rows: Deferred[Rows]
        if target.shared is not None and self._rng.random() < SHARED_SHARE:
            rows = target.shared.read(low, high, target.timeout_seconds)
        else:
            servers = self._rng.sample(target.servers, len(target.servers))
            rows = self._reads.read(target.group_id, servers, low, high, timeout_seconds=target.timeout_seconds)
        _ = rows.addCallbacks(self._have_read, self._not_read, (low, high, invoked))

    def _have_read(self, rows: Rows, low: int, high: int, invoked: float) -> None:
        self._happened["client: reads"] += 1
        found: list[dict[str, Any]] = msgspec.json.decode(b"[" + rows.data + b"]")
        values = {row["id"]: row["value"] for row in found}
        for key in range(low, high + 1):
            read = Operation(
                Kind.READ, None, values.get(key, ABSENT), invoked, self._clock.seconds(), client=self._name
            )
            self._history.append((key, read))
        if self._finishing and (low, high) == (KEYS[0], KEYS[-1]):
            self.is_done = True
            self._reads.stop()
            return
        self._ended()

    def _not_read(self, failure: Failure) -> None:
        failure.trap(RequestFailed)
        self._happened["client: reads failed"] += 1
        self._ended()
