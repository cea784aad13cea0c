"""A network that delays, drops, duplicates, reorders and cuts, also in one direction only.

The pieces of a snapshot are neither duplicated nor reordered: a transfer stands and falls with its connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from raftlog.messages import RaftItem, SnapshotChunk
from raftlog.testing.simulation.clock import SimulatedClock


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is at present: chances per item, and the range of the delay in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay_min: float = 0.0005
    delay_max: float = 0.002


CALM = Weather()


class SimulatedNetwork:
    """Carries items between servers by name. `deliver(to, item)` hands one over if the server is up.

    `observe(sender, to, item)` hears of every item that is sent.
    """

    def __init__(
        self,
        clock: SimulatedClock,
        rng: random.Random,
        deliver: Callable[[str, RaftItem], None],
        observe: Callable[[str, str, RaftItem], None],
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._deliver = deliver
        self._observe = observe
        self.weather = CALM
        self._cuts: set[tuple[str, str]] = set()
        #: When the last piece of a snapshot arrives, by direction.
        self._last_piece: dict[tuple[str, str], float] = {}

    def send(self, sender: str, to: str, item: RaftItem) -> bool:
        """Send an item, which arrives later, once, twice or never. A sender does not notice what is lost."""
        self._observe(sender, to, item)
        is_piece = isinstance(item, SnapshotChunk)
        copies = 2 if not is_piece and self._rng.random() < self.weather.duplicate else 1
        for _ in range(copies):
            self.carry(sender, to, lambda: self._deliver(to, item), in_order=is_piece)
        return True

    def carry(self, sender: str, to: str, arrive: Callable[[], None], *, in_order: bool = False) -> None:
        """Call `arrive` when something that is sent now arrives, if it does; `in_order` not before others so sent."""
        weather, rng = self.weather, self._rng
        if weather.drop and rng.random() < weather.drop:
            return
        delay = rng.uniform(weather.delay_min, weather.delay_max)
        direction = (sender, to)
        if in_order:
            now = self._clock.seconds()
            arrives = self._last_piece[direction] = max(now + delay, self._last_piece.get(direction, now))
            delay = arrives - now
        self._clock.callLater(delay, self._arrived, direction, arrive)

    def _arrived(self, direction: tuple[str, str], arrive: Callable[[], None]) -> None:
        if direction not in self._cuts:
            arrive()

    def cut(self, one: str, other: str, *, one_way: bool) -> None:
        """Lose everything from `one` to `other`, and unless `one_way` back as well."""
        self._cuts.add((one, other))
        if not one_way:
            self._cuts.add((other, one))

    def heal(self) -> None:
        """Let everything pass, quickly and reliably."""
        self._cuts.clear()
        self.weather = CALM
