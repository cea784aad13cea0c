"""Mutants of the state machine, the client and the tours, and the hunt for all mutants.

`python -m dbnode.testing.mutation > raftlog/testing/mutants/table.txt` writes the table of how many seeds each one
takes anew. The test of all (slow_mutants) needs no chance where a scenario is there, and is done in a fraction of that.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import cpu_count
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from dbnode import memory, snapshot, tours
from dbnode.changes import Changes
from dbnode.client import proposals
from dbnode.client.outcome import NotApplied
from dbnode.client.reads import Attempts
from dbnode.client.tours import ReadTours
from dbnode.memory import MemoryStore
from dbnode.sessions import SessionLayer
from dbnode.testing import fuzz
from dbnode.testing.workers import new_pool
from dbnode.wire import Batch
from raftlog import testimony
from raftlog.testimony import Position, Testimony, read_position
from raftlog.testing.mutants import MUTANTS as OF_RAFT
from raftlog.testing.mutants import Mutant

#: Seeds that are tried with a mutant.
SEEDS_MAX = 120
#: Of what was seen, in the table.
SEEN_CHARACTERS = 90


def _apply_again(self: SessionLayer, index: int, batch: Batch) -> Any:
    found = _real_find(self, index, batch)
    return None if isinstance(found, tuple) else found


def _content_without(*parts: str) -> Callable[..., snapshot.Content]:
    def content(*fields: Any) -> snapshot.Content:
        given = dict(zip(snapshot.Content.__struct_fields__, fields, strict=True))
        given.update({part: iter(()) for part in parts})
        return snapshot.Content(**given)

    return content


def _commit_position_apart(self: MemoryStore, changes: Changes) -> None:
    """Keep the rows of a transaction over a crash, but not the position that belongs to them."""
    position = self._durable.position
    _real_commit(self, changes)
    self._durable.apply(changes)
    self._durable.position = position
    self._pending.clear()


def _read_position_in_any_term(testimonies: Sequence[Testimony]) -> Position:
    term = max((one.term for one in testimonies if one.committed), default=0)
    return read_position([replace(one, term=term) for one in testimonies])


def _join_tour_that_has_left(self: ReadTours, attempts: Attempts) -> None:
    for away in self._away:
        away.reads[attempts.group_id].append(attempts)
        return
    _real_take(self, attempts)


_real_take = ReadTours.take
_real_find = SessionLayer.find
_real_commit = MemoryStore.commit

MUTANTS = (
    *OF_RAFT,
    Mutant(
        "apply a batch again", "exactly once: a retry gets the first results", [(SessionLayer, "find", _apply_again)]
    ),
    Mutant(
        "forget sessions in snapshots",
        "RAFT_RULES 8: sessions belong to the state",
        [(memory, "Content", _content_without("sessions", "results"))],
    ),
    Mutant(
        "forget results in snapshots",
        "RAFT_RULES 8: results belong to the state",
        [(memory, "Content", _content_without("results"))],
    ),
    Mutant(
        "store the applied index apart from the rows",
        "RAFT_RULES 8: they change in one transaction",
        [(MemoryStore, "commit", _commit_position_apart)],
    ),
    Mutant(
        "call an unknown outcome not applied",
        "RAFT_RULES 41: an unknown outcome is a third answer",
        [(proposals, "OutcomeUnknown", NotApplied)],
    ),
    Mutant(
        "count testimonies of other terms",
        "thesis §6.4: the quorum is one of the leader's term",
        [(module, "read_position", _read_position_in_any_term) for module in (testimony, tours)],
        "raftlog.test.test_testimony.ReadPositionTests.test_other_terms",
    ),
    Mutant(
        "join a tour that has left",
        "RAFT_RULES 26: what a tour finds proves nothing for a read that began later",
        [(ReadTours, "take", _join_tour_that_has_left)],
        "dbnode.test.test_client_tours.ReadToursTests.test_what_comes_meanwhile_waits",
    ),
)


class Catch(NamedTuple):
    """What came of hunting a mutant: the seeds it took (0: its scenario saw it, -1: nothing did) and what was seen."""

    mutant: Mutant
    seeds: int
    seen: str


#: How one mutant is hunted: hunt, or hunt_surely.
Hunt: TypeAlias = Callable[[Mutant, Iterable[int]], Catch]


def hunt(mutant: Mutant, seeds: Iterable[int]) -> Catch:
    """Run seeds until one fails because of the mutant; if none does, its scenario."""
    with mutant.applied():
        for count, seed in enumerate(seeds, start=1):
            result = fuzz.run(seed)
            if result.error:
                return Catch(mutant, count, result.error.splitlines()[0][:SEEN_CHARACTERS].rstrip())
        if mutant.scenario and _scenario_fails(mutant.scenario):
            return Catch(mutant, 0, mutant.scenario.rpartition(".")[2])
    return Catch(mutant, -1, "NOT CAUGHT")


def hunt_surely(mutant: Mutant, seeds: Iterable[int]) -> Catch:
    """Like hunt, but a mutant that has a scenario must be seen by that, whatever seeds would see."""
    if not mutant.scenario:
        return hunt(mutant, seeds)
    return hunt(mutant, ())


def _scenario_fails(name: str) -> bool:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromName(name).run(result)
    return not result.wasSuccessful()


def hunt_all(how: Hunt, seeds: range, processes: int) -> Iterator[Catch]:
    """Hunt all mutants, in order."""
    numbers = range(len(MUTANTS))
    with new_pool(processes) as pool:
        for number, (count, seen) in zip(numbers, pool.imap(partial(_hunt_number, how, seeds), numbers), strict=True):
            yield Catch(MUTANTS[number], count, seen)


def _hunt_number(how: Hunt, seeds: range, number: int) -> tuple[int, str]:
    """Hunt one mutant in a process of its own; mutants themselves don't travel."""
    return how(MUTANTS[number], seeds)[1:]


def line(catch: Catch) -> str:
    """Return a mutant's line of the table: seeds needed, name, what was seen."""
    seeds = str(catch.seeds) if catch.seeds > 0 else "scenario"
    return f"{seeds:>8}  {catch.mutant.name:44}  {catch.seen}"


if __name__ == "__main__":
    fuzz.say("seeds needed, mutant, what was seen")
    for caught in hunt_all(hunt, range(SEEDS_MAX), cpu_count()):
        fuzz.say(line(caught))
