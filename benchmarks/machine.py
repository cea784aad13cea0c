"""The conditions of a measurement: the machine, its load, the interpreter and the revision measured."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SYNC_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Machine:
    """What a figure depends on. `sync_ms` is the median time to append 4 kB and fdatasync it in the data directory."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    load_average: tuple[float, float, float]
    filesystem: str
    sync_ms: float
    revision: str


def describe_machine(directory: Path, clock: Callable[[], float]) -> Machine:
    """Return the facts of this machine now; `directory` is where the data will be."""
    return Machine(
        cpu=_field_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_average=os.getloadavg(),
        filesystem=_filesystem(directory),
        sync_ms=_sync_seconds(directory, clock) * 1e3,
        revision=_revision(),
    )


def _field_of(path: str, name: str) -> str:
    """Return the first `name: value` of a file of /proc, "" if there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _filesystem(directory: Path) -> str:
    """Return the type of the file system of the longest mount point above `directory`."""
    target = directory.resolve()
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if target.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _sync_seconds(directory: Path, clock: Callable[[], float]) -> float:
    path = directory / "sync-probe"
    times = []
    with path.open("wb", buffering=0) as probe:
        for _ in range(_SYNC_ROUNDS):
            started = clock()
            probe.write(b"x" * 4096)
            os.fdatasync(probe.fileno())
            times.append(clock() - started)
    path.unlink()
    return statistics.median(times)


def _revision() -> str:
    """Return the git revision of these sources, marked if they were changed since; "unknown" outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
