"""Apply log entries: ask the store what they touch, let the machine decide, commit what it decided.

The machine's memory follows the store: it moves only once the transaction is in, so a commit that fails leaves both
where they were.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbnode.changes import Changes, Loaded
from dbnode.machine import Item, Machine, Outcome
from dbnode.store import Answer, Store


def apply_items(machine: Machine, store: Store, items: Sequence[Item]) -> Answer[list[Outcome]]:
    """Apply entries in order, in one transaction, and return the outcome of each. One call at a time per machine."""
    touched = machine.touched(items)
    if not touched.ids and not touched.keys:
        return _decide(machine, store, items, Loaded({}, {}))
    loaded = store.load(touched.ids, touched.keys)
    # Deferred is an abstract base class: to ask whether something is none costs five times what this does.
    if not isinstance(loaded, Loaded):
        return loaded.addCallback(lambda found: _decide(machine, store, items, found))
    return _decide(machine, store, items, loaded)


def _decide(machine: Machine, store: Store, items: Sequence[Item], loaded: Loaded) -> Answer[list[Outcome]]:
    outcomes, changes = machine.execute(items, loaded)
    committed = store.commit(changes)
    if committed is not None:
        return committed.addCallback(lambda _: _absorb(machine, changes, outcomes))
    return _absorb(machine, changes, outcomes)


def _absorb(machine: Machine, changes: Changes, outcomes: list[Outcome]) -> list[Outcome]:
    machine.absorb(changes)
    return outcomes
