"""Processes of a PostgreSQL that a killed server has left behind, and how they are ended.

They are told by their working directory, which for each process of a PostgreSQL is its data directory: a process id in
a file may be another's by now. Signals go through a pidfd whose process was looked at after it was opened.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dbnode.store import StoreError

_PROC = Path("/proc")
_POLL_SECONDS = 0.05
#: How each stage ends them, and how long it may take: in order (as the kernel asked it already), at once, by force.
#: The last ones of PostgreSQL end by themselves once the first is gone.
_STAGES = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


async def end_orphans(clock: IReactorTime, directory: Path) -> None:
    """Return once no PostgreSQL runs on a data directory, and nothing there says so. Raises StoreError."""
    for number, seconds in _STAGES:
        deadline = clock.seconds() + seconds
        _signal(processes_in(directory), directory, number)
        while processes_in(directory) and clock.seconds() < deadline:
            await deferLater(clock, _POLL_SECONDS)
    left = processes_in(directory)
    if left:
        raise StoreError(f"processes {left} of an earlier PostgreSQL in {directory} do not end")
    # A new PostgreSQL would take the number in it for a running one if some other process has that number now.
    (directory / "postmaster.pid").unlink(missing_ok=True)


def processes_in(directory: Path) -> list[int]:
    """Return the processes that work in a directory, the first-born first."""
    return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _works_in(entry, directory))


def _works_in(process: Path, directory: Path) -> bool:
    try:
        return os.path.samefile(process / "cwd", directory) and b"postgres" in (process / "cmdline").read_bytes()
    except OSError:
        return False  # it has ended, or is not ours to look at


def _signal(processes: list[int], directory: Path, number: signal.Signals) -> None:
    for pid in processes:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _works_in(_PROC / str(pid), directory):
                signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)
