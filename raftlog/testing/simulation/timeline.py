"""The run of a simulation at a glance: one line per server, one letter per moment."""

from __future__ import annotations

from raftlog.testing.simulation.server import SimulatedServer

#: Seconds from one letter to the next.
STEP_SECONDS = 0.2
#: Letters in one row.
WIDTH = 100

LEGEND = "L leader  f follower  p pre-candidate  c candidate  l learner  . no replica  z paused  x down"

_LETTERS = {"leader": "L", "follower": "f", "pre-candidate": "p", "candidate": "c", "learner": "l"}


class Timeline:
    """Takes a letter per server whenever it is told to look."""

    def __init__(self, servers: dict[str, SimulatedServer], group_id: int) -> None:
        self._servers = servers
        self._group_id = group_id
        self._letters: dict[str, list[str]] = {name: [] for name in servers}

    def look(self) -> None:
        """Note what each server is now."""
        for name, server in self._servers.items():
            self._letters[name].append(self._letter(server))

    def _letter(self, server: SimulatedServer) -> str:
        if server.node is None:
            return "x"
        if server.paused:
            return "z"
        if self._group_id not in server.node.group_ids:
            return "."
        return _LETTERS[server.node.status(self._group_id).role]

    def text(self) -> str:
        """Return all rows, with the time at which each begins."""
        count = len(next(iter(self._letters.values())))
        lines = [LEGEND]
        for start in range(0, count, WIDTH):
            lines.append(f"{start * STEP_SECONDS:7.1f} s")
            lines += [
                f"    {name} {''.join(letters[start : start + WIDTH])}" for name, letters in self._letters.items()
            ]
        return "\n".join(lines)
