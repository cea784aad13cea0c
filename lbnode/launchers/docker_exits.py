"""Hears from the engine's events that a container died. Reads them in a thread of its own, since reading blocks.

When the stream breaks it is opened again from the last event on. What is missed all the same, as when the engine
itself was restarted, the servers' keepers find out when they look.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from lbnode.launchers import LaunchFailed
from lbnode.launchers.docker_names import LABEL_HOME

#: How long to wait until the engine is asked again after it did not answer.
_PAUSE_SECONDS = 1.0


class ContainerExits:
    """Reads `deaths` (the stream of events since a second) and calls `ended` with homes, in its own thread."""

    def __init__(self, deaths: Callable[[int], Any], ended: Callable[[str], None]) -> None:
        self._deaths = deaths
        self._ended = ended
        self._stopping = Event()
        self._opening = Lock()
        self._stream: Any = None
        self._thread = Thread(target=self._read_on, name="docker events", daemon=True)

    def start(self, now_seconds: int) -> None:
        """Begin to read, from the engine's second `now_seconds` on."""
        self._since = now_seconds
        self._open()
        self._thread.start()

    def stop(self) -> None:
        """Read no more; returns when the thread has ended."""
        with self._opening:
            self._stopping.set()
            if self._stream is not None:
                self._stream.close()
        if self._thread.is_alive():
            self._thread.join()

    def _open(self) -> None:
        with self._opening:
            if not self._stopping.is_set():
                self._stream = self._deaths(self._since)

    def _read_on(self) -> None:
        while not self._stopping.is_set():
            self._read()
            if self._stopping.wait(_PAUSE_SECONDS):
                return
            try:
                self._open()
            except LaunchFailed:
                self._stream = iter(())  # it is tried again after a pause

    def _read(self) -> None:
        for event in self._stream:
            self._since = event["time"]
            home = event["Actor"]["Attributes"].get(LABEL_HOME)
            if home is not None:
                self._ended(home)
