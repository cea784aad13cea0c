"""How long clients of each shard waited for any success, while somebody waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Pauses:
    """Told of each operation when it begins and ends; times are seconds of one clock.

    A pause of a shard begins with an operation while no other waits, or with a success while others wait; it ends with
    the next success. A failure ends no pause.
    """

    def __init__(self, shards: Iterable[str]) -> None:
        #: Seconds, by shard and by the fault that a pause is put down to.
        self.longest_by_shard = dict.fromkeys(shards, 0.0)
        self.longest_by_fault: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()

    def began(self, shards: Iterable[str], now: float) -> None:
        """Take the beginning of an operation on these shards."""
        for shard in shards:
            self._since.setdefault(shard, now)
            self._waiting[shard] += 1

    def ended(self, shards: Iterable[str], now: float, *, succeeded: bool, fault: str) -> None:
        """Take the end of an operation during a fault."""
        for shard in shards:
            self._waiting[shard] -= 1
            if succeeded:
                self._succeeded(shard, now, fault)

    def lasting(self, shard: str, now: float) -> float:
        """Return how long the clients of a shard have been waiting just now, 0.0 if nobody waits."""
        return now - self._since[shard] if shard in self._since else 0.0

    def _succeeded(self, shard: str, now: float, fault: str) -> None:
        # An operation that began before another one's success ended the pause that it began.
        pause = now - self._since.pop(shard, now)
        self.longest_by_shard[shard] = max(pause, self.longest_by_shard[shard])
        self.longest_by_fault[fault] = max(pause, self.longest_by_fault.get(fault, 0.0))
        if self._waiting[shard]:
            self._since[shard] = now
