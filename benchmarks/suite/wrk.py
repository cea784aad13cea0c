"""wrk as the client: it costs a tenth of ours, and nobody can say that it was written for us.

wrk sends for a number of seconds, so it gets more bodies than it can use and says whether it ran out. It judges only
status and time-outs; what it wrote is counted and compared afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.utils import getProcessOutputAndValue

from benchmarks.door import Door
from benchmarks.suite.missing import MissingProgramError

#: Reads one body per line from its first argument; its second is the path. The heads are made before the clock starts.
#: `done` runs in another Lua state than `request`: what it wants of that one it asks by name, so those are global.
_SCRIPT = r"""
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  requests, place, rounds = {}, 0, 0
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines(args[1]) do
    table.insert(requests, wrk.format("POST", args[2], nil, body))
  end
end
function request()
  place = place + 1
  if place > #requests then place, rounds = 1, rounds + 1 end
  return requests[place]
end
function done(summary, latency)
  local rounds = 0
  for _, thread in ipairs(threads) do rounds = math.max(rounds, thread:get("rounds")) end
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,' ..
    '"rounds":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    rounds, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9),
    latency.max))
end
"""
_TIMEOUT_SECONDS = 10


class WrkError(Exception):
    """The world's fault: wrk did not do its work."""


class _Counted(msgspec.Struct):
    """What the script prints at the end. `requests` counts answers of whatever status."""

    requests: int
    duration_us: int
    bytes: int
    connect: int
    read: int
    write: int
    status: int
    timeout: int
    rounds: int
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class Blast:
    """What one run of wrk found. `ran_out` tells that it used up its bodies and began again."""

    succeeded: int
    figures: dict[str, float]
    errors: dict[str, int]
    ran_out: bool


class Wrk:
    """Runs wrk with a script and bodies in `directory`. Raises MissingProgramError when it is made without wrk."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self._directory = directory
        found = shutil.which("wrk")
        if found is None:
            raise MissingProgramError("wrk", "wrk")
        self._program = found

    async def blast(self, door: Door, path: str, bodies: Sequence[bytes], *, connections: int, seconds: int) -> Blast:
        """Send bodies to a path for so many seconds, one after the other over all connections. Raises WrkError."""
        script, lines = self._directory / "wrk.lua", self._directory / "bodies"
        script.write_text(_SCRIPT)
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        arguments = [
            "--threads=1",
            f"--connections={connections}",
            f"--duration={seconds}s",
            f"--timeout={_TIMEOUT_SECONDS}s",
            f"--script={script}",
            f"http://{door.host}",
            "--",
            str(lines),
            path,
        ]
        out, err, code = await getProcessOutputAndValue(self._program, arguments, os.environ, reactor=self._reactor)
        return blast_of(out, err, code)


def blast_of(out: bytes, err: bytes, code: int) -> Blast:
    """Return what wrk printed, or raise WrkError with it."""
    try:
        counted = msgspec.json.decode(out.rstrip().rpartition(b"\n")[2], type=_Counted)
    except msgspec.MsgspecError as reason:
        said = (out + err).decode(errors="replace").strip()[-500:]
        raise WrkError(f"wrk ended with {code} and said: {said}") from reason
    kinds = ("connect", "read", "write", "status", "timeout")
    succeeded = counted.requests - counted.status
    seconds = counted.duration_us / 1e6
    return Blast(
        succeeded=succeeded,
        figures={
            "rate_per_second": succeeded / seconds if seconds else 0.0,
            "p50_ms": counted.p50_us / 1e3,
            "p90_ms": counted.p90_us / 1e3,
            "p99_ms": counted.p99_us / 1e3,
            "p99_9_ms": counted.p999_us / 1e3,
            "max_ms": counted.max_us / 1e3,
            "bytes_per_answer": counted.bytes / counted.requests if counted.requests else 0.0,
        },
        errors={f"wrk {kind}": count for kind in kinds if (count := getattr(counted, kind))},
        ran_out=counted.rounds > 0,
    )
