"""Processes of this machine as /proc shows them (proc(5)), told apart by start time and not by number alone.

A process id is used again sooner or later; a pid together with its start time is not. Signals go through a pidfd
(pidfd_open(2)) whose process was checked after it was opened, so that none ever reaches a stranger.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

from dbnode.wire import ServerFile

_PROC = Path("/proc")


class Process(msgspec.Struct, frozen=True):
    """One process for all time: `started_at` is its start in clock ticks since boot, field 22 of /proc/PID/stat."""

    pid: int
    started_at: int

    def is_alive(self) -> bool:
        """Tell whether it still runs; one that ended but was not waited for does not."""
        return started_at(self.pid) == self.started_at

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended meanwhile."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive():
                signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)


def started_at(pid: int) -> int | None:
    """Return the start time of a running process, None if there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def with_argument(option: str, value: str) -> list[Process]:
    """Return the processes whose command line holds `option` followed by `value`."""
    wanted = f"\0{option}\0{value}\0".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command_line = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked
        since = started_at(int(entry.name))
        if wanted in command_line and since is not None:
            found.append(Process(int(entry.name), since))
    return found


def running_below(directory: Path) -> dict[str, Process]:
    """Return the servers that run with their data directories below a directory, by the names of these."""
    found = {}
    for path in sorted(directory.glob("*/endpoints.json")):
        try:
            file = msgspec.json.decode(path.read_bytes(), type=ServerFile)
        except (OSError, ValueError, RecursionError):  # ValueError: msgspec's errors, and bytes that are no UTF-8
            continue
        process = Process(file.pid, file.started_at)
        if process.is_alive():
            found[path.parent.name] = process
    return found
