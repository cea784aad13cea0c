"""A checker for histories of one key at a time: whether all of this could have happened in one order.

An operation takes effect at one moment between its invocation and its return (Herlihy & Wing 1990). The search is that
of Wing & Gong with Lowe's memory of (set of operations done, state) pairs, over operations in the order of their
events. Keys are independent, so a history of many keys is linearizable if each key's part is.

An operation of unknown outcome may take effect at any time after its invocation or never: it returns at the end of
time, where nobody sees it any more. A search that takes too long says so: out of time is never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

#: The value of a key that does not exist.
ABSENT = "<absent>"
#: When an operation of unknown outcome returns.
NEVER = float("inf")


class Verdict(Enum):
    """What the search found."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not-linearizable"
    #: Not decided within the steps allowed.
    UNKNOWN = "unknown"


class Kind(Enum):
    """What can be done to a key; a value is any hashable, ABSENT if the key does not exist."""

    #: `result`: the value.
    READ = "read"
    #: Sets `argument` whatever was there; no result.
    WRITE = "write"
    #: `argument` is (expected, new); `result`: whether it was as expected.
    COMPARE_AND_SET = "compare-and-set"
    #: Sets `argument` if the key is absent; `result`: whether it was.
    INSERT = "insert-if-absent"
    #: Sets `argument` if the key exists; `result`: whether it did.
    UPDATE = "update-if-present"
    #: Removes the key; `result`: whether it existed.
    DELETE = "delete-if-present"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. `known` is False if its outcome, and so its result, is unknown."""

    kind: Kind
    argument: Hashable
    result: Hashable
    invoked: float
    returned: float
    known: bool = True
    client: str = ""


def _apply(operation: Operation, value: Hashable) -> tuple[Hashable, Hashable]:
    """Return the result an operation has on `value`, and the value after it."""
    kind, argument = operation.kind, operation.argument
    exists = value != ABSENT
    if kind is Kind.READ:
        return value, value
    if kind is Kind.WRITE:
        return None, argument
    if kind is Kind.COMPARE_AND_SET:
        assert isinstance(argument, tuple)
        expected, new = argument
        return value == expected, new if value == expected else value
    if kind is Kind.INSERT:
        return not exists, value if exists else argument
    if kind is Kind.UPDATE:
        return exists, argument if exists else value
    return exists, ABSENT


class _Event:
    """The invocation or return of an operation, in a doubly linked list in order of time."""

    __slots__ = ("after", "before", "number", "operation", "other")

    def __init__(self, number: int, operation: Operation | None) -> None:
        self.number = number
        #: None marks a return.
        self.operation = operation
        #: An invocation's return.
        self.other: _Event | None = None
        self.before: _Event | None = None
        self.after: _Event | None = None


def _events(operations: Sequence[Operation]) -> _Event:
    """Return the head of the list of all events; at the same instant invocations come first."""
    times: list[tuple[float, int, int, _Event]] = []
    for number, operation in enumerate(operations):
        invocation, end = _Event(number, operation), _Event(number, None)
        invocation.other = end
        returned = operation.returned if operation.known else NEVER
        times.append((operation.invoked, 0, number, invocation))
        times.append((returned, 1, number, end))
    head = previous = _Event(-1, None)
    for *_, event in sorted(times, key=lambda item: item[:3]):
        previous.after, event.before = event, previous
        previous = event
    return head


def _unlink(event: _Event) -> None:
    if event.before is not None:
        event.before.after = event.after
    if event.after is not None:
        event.after.before = event.before


def _relink(event: _Event) -> None:
    if event.before is not None:
        event.before.after = event
    if event.after is not None:
        event.after.before = event


def check_key(operations: Sequence[Operation], initial: Hashable = ABSENT, steps_max: int = 5_000_000) -> Verdict:
    """Return whether the operations on one key could have happened one at a time.

    `steps_max` bounds the search; beyond it the verdict is UNKNOWN.
    """
    head = _events(operations)
    value: Hashable = initial
    done = 0
    tried: set[tuple[int, Hashable]] = set()
    undo: list[tuple[_Event, Hashable]] = []
    event = head.after
    for _ in range(steps_max):
        if event is None:
            # Nothing is left to be placed: an invocation always stands before its return.
            return Verdict.LINEARIZABLE
        placed = _place(event, value, done, tried)
        if placed is not None:
            undo.append((event, value))
            done |= 1 << event.number
            value = placed[0]
            _take_out(event)
            event = head.after
        elif event.operation is not None:
            event = event.after
        elif undo:
            # This operation has returned and could not be placed: the last choice was wrong.
            event, value = undo.pop()
            done &= ~(1 << event.number)
            _put_back(event)
            event = event.after
        else:
            return Verdict.NOT_LINEARIZABLE
    return Verdict.UNKNOWN


def _place(event: _Event, value: Hashable, done: int, tried: set[tuple[int, Hashable]]) -> tuple[Hashable] | None:
    """Return the value after an operation if it can take effect next and that was not tried yet."""
    operation = event.operation
    if operation is None:
        return None
    result, after = _apply(operation, value)
    if operation.known and operation.kind is not Kind.WRITE and result != operation.result:
        return None
    state = (done | 1 << event.number, after)
    if state in tried:
        return None
    tried.add(state)
    return (after,)


def _take_out(invocation: _Event) -> None:
    assert invocation.other is not None
    _unlink(invocation)
    _unlink(invocation.other)


def _put_back(invocation: _Event) -> None:
    assert invocation.other is not None
    _relink(invocation.other)
    _relink(invocation)


def check(
    history: Iterable[tuple[Hashable, Operation]],
    initial: Callable[[Hashable], Hashable] = lambda key: ABSENT,
    steps_max: int = 5_000_000,
) -> dict[Hashable, Verdict]:
    """Return the keys of a history whose part is not linearizable, or undecided; empty if all is well."""
    by_key: dict[Hashable, list[Operation]] = {}
    for key, operation in history:
        by_key.setdefault(key, []).append(operation)
    verdicts = {key: check_key(part, initial(key), steps_max) for key, part in by_key.items()}
    return {key: verdict for key, verdict in verdicts.items() if verdict is not Verdict.LINEARIZABLE}
