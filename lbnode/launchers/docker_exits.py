"""Hears from the engine's events that a container died. Reads them in a thread of its own, since reading blocks.

When the stream breaks it is opened again from the last event on. What is missed all the same, as when the engine
itself was restarted, the servers' keepers find out when they look.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

from docker.errors import DockerException, StreamParseError

from lbnode.launchers import LaunchFailed
from lbnode.launchers.docker_names import LABEL_HOME

#: How long to wait until the engine is asked again after it did not answer.
_PAUSE_SECONDS = 1.0
#: How long the thread may take to end; it ends with the process in any case.
_GOODBYE_SECONDS = 2.0


class ContainerExits:
    """Reads `deaths` (the stream of events since a second) and calls `ended` with homes, in its own thread."""

    def __init__(self, deaths: Callable[[int], Any], ended: Callable[[str], None]) -> None:
        self._deaths = deaths
        self._ended = ended
        self._since = 0
        self._stopping = Event()
        #: Held while `_stream` is replaced or closed.
        self._opening = Lock()
        self._stream: Any = None
        self._thread = Thread(target=self._read_on, name="docker events", daemon=True)

    def start(self, now_seconds: int) -> None:
        """Begin to read, from the engine's second `now_seconds` on. Raises LaunchFailed if there is nothing to read."""
        self._since = now_seconds
        self._open()
        self._thread.start()

    def stop(self) -> None:
        """Read no more; an engine that does not answer just now is not waited for."""
        self._stopping.set()
        if self._opening.acquire(timeout=_GOODBYE_SECONDS):
            if self._stream is not None:
                with suppress(DockerException, OSError):  # over SSH it cannot be closed; or it broke just now
                    self._stream.close()
            self._opening.release()
        if self._thread.is_alive():
            self._thread.join(_GOODBYE_SECONDS)

    def _open(self) -> None:
        with self._opening:
            self._stream = None
            if not self._stopping.is_set():
                self._stream = self._deaths(self._since)

    def _read_on(self) -> None:
        while not self._stopping.is_set():
            self._read()
            if self._stopping.wait(_PAUSE_SECONDS):
                return
            with suppress(LaunchFailed):  # it is tried again after a pause
                self._open()

    def _read(self) -> None:
        with suppress(StreamParseError):  # the stream broke in the middle of an event
            for event in self._stream or ():
                self._since = event["time"]
                home = event["Actor"]["Attributes"].get(LABEL_HOME)
                if home is not None:
                    self._ended(home)
