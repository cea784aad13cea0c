"""A server whose reactor is watched: `python -m benchmarks.stall_probe ARGUMENTS-OF-TWISTD`.

Each time the reactor is late by more than a heartbeat's tick or so, a line goes to the file `stalls` in the server's
data directory. Late also means: others had the processor. So the line says how much of it this thread had itself.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_PERIOD_SECONDS = 0.005
_LATE_SECONDS = 0.020
_FILE = "stalls"


@dataclass(frozen=True, slots=True)
class Stall:
    """One time that a reactor did not come round: how long, and for how much of that its own work was the reason."""

    ended_at: float
    seconds: float
    cpu_seconds: float


def stalls(data_dir: Path, since: float) -> list[Stall]:
    """Return what was noted since a moment of time.monotonic()."""
    lines = (data_dir / _FILE).read_text().splitlines()
    found = [Stall(*map(float, line.split())) for line in lines]
    return [stall for stall in found if stall.ended_at - stall.seconds >= since]


class _Probe:
    def __init__(self, reactor: Any, output: TextIO) -> None:
        self._reactor = reactor
        self._output = output
        self._seen_at = 0.0
        self._cpu_seconds = 0.0

    def start(self) -> None:
        self._seen_at, self._cpu_seconds = time.monotonic(), time.thread_time()
        self._reactor.callLater(_PERIOD_SECONDS, self._look)

    def _look(self) -> None:
        now, cpu_seconds = time.monotonic(), time.thread_time()
        late_seconds = now - self._seen_at - _PERIOD_SECONDS
        if late_seconds > _LATE_SECONDS:
            self._output.write(f"{now} {late_seconds} {cpu_seconds - self._cpu_seconds}\n")
        self.start()


def main() -> None:
    """Run twistd with a probe on its reactor."""
    from twisted.internet import reactor
    from twisted.scripts.twistd import run

    data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1])
    data_dir.mkdir(parents=True, exist_ok=True)
    probe = _Probe(reactor, (data_dir / _FILE).open("a", buffering=1))
    reactor.callWhenRunning(probe.start)
    run()


if __name__ == "__main__":
    main()
