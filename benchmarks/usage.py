"""What processes use, from /proc: processor time by role, memory of each before, after and at its peak.

Processor time is utime + stime of all threads, those that ended included (proc(5), stat); its grain is a clock tick,
so that a phase must last seconds for its microseconds per operation to mean anything. The peak is VmHWM, which
writing 5 to clear_refs resets (proc(5)); where that is refused it is the peak since the process began.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"


class Memory(msgspec.Struct, frozen=True):
    """One process in one phase; megabytes. The peak is the kernel's, of the phase alone where it can be reset."""

    name: str
    role: str
    rss_before_mb: float
    rss_after_mb: float
    rss_peak_mb: float
    pss_before_mb: float
    pss_after_mb: float


@dataclass(frozen=True, slots=True)
class Watched:
    """A process and what it is for: "balancer", "servers", "client" or a peer's own word."""

    name: str
    role: str
    pid: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used between start and stop."""

    cpu_seconds: dict[str, float]
    memory: list[Memory]

    def figures(self, operations: int) -> dict[str, float]:
        """Return processor time per operation by role, and of each role the largest process and the largest growth."""
        found: dict[str, float] = {}
        for role, seconds in self.cpu_seconds.items():
            if operations:
                found[f"cpu_{role}_us"] = seconds / operations * 1e6
        for role in dict.fromkeys(one.role for one in self.memory):
            ours = [one for one in self.memory if one.role == role]
            found[f"rss_peak_{role}_mb"] = max(one.rss_peak_mb for one in ours)
            found[f"rss_growth_{role}_mb"] = max(one.rss_peak_mb - one.rss_before_mb for one in ours)
        return found


@dataclass(frozen=True, slots=True)
class _Reading:
    cpu_seconds: float
    rss_mb: float
    peak_mb: float
    pss_mb: float


class Meter:
    """Reads processes when it is made and again at `stop`. Those that are gone by then are left out."""

    def __init__(self, processes: Iterable[Watched], proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before: list[tuple[Watched, _Reading]] = []
        for watched in processes:
            with suppress(OSError):
                (proc / str(watched.pid) / "clear_refs").write_text(_RESET_PEAK)
            if (reading := _read(proc, watched.pid)) is not None:
                self._before.append((watched, reading))

    def stop(self) -> Usage:
        """Return what was used since."""
        cpu_seconds: dict[str, float] = {}
        memory = []
        for watched, before in self._before:
            if (after := _read(self._proc, watched.pid)) is None:
                continue
            used = after.cpu_seconds - before.cpu_seconds
            cpu_seconds[watched.role] = cpu_seconds.get(watched.role, 0.0) + used
            memory.append(
                Memory(
                    watched.name,
                    watched.role,
                    before.rss_mb,
                    after.rss_mb,
                    max(after.peak_mb, after.rss_mb),
                    before.pss_mb,
                    after.pss_mb,
                )
            )
        return Usage(cpu_seconds, memory)


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes that descend from one, itself first."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents(proc):
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:  # grows while it is walked
        found.extend(children.get(one, ()))
    return found


def arguments(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Return what a process was started with, nothing if it is gone (proc(5), cmdline)."""
    try:
        line = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(one) for one in line.split(b"\0")[:-1]]


def client() -> Watched:
    """Return this process, which is the client."""
    return Watched("client", "client", os.getpid())


def _parents(proc: Path) -> Iterator[tuple[int, int]]:
    for path in proc.glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            yield int(path.parent.name), int(_stat_fields(path)[1])


def _stat_fields(path: Path) -> list[str]:
    """Return the fields of a stat file from `state` on; the name before them may hold anything."""
    return path.read_text(errors="replace").rpartition(")")[2].split()


def _read(proc: Path, pid: int) -> _Reading | None:
    try:
        fields = _stat_fields(proc / str(pid) / "stat")
        status = _numbers(proc / str(pid) / "status")
        rollup = _numbers(proc / str(pid) / "smaps_rollup")
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return _Reading(
        cpu_seconds=ticks / _TICKS_PER_SECOND,
        rss_mb=status.get("VmRSS", 0) / 1024,
        peak_mb=status.get("VmHWM", 0) / 1024,
        pss_mb=rollup.get("Pss", 0) / 1024,
    )


def _numbers(path: Path) -> Mapping[str, int]:
    """Return the `Name: number kB` lines of a file of /proc."""
    lines = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in lines if rest.strip().endswith(" kB")}
