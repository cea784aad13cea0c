"""A launcher in the hands of a controller that may have been deposed and not know it yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from dbnode.wire import ServerFile
from lbnode.launchers import Launcher, ServerSpec


class FencedLauncher:
    """Launcher that asks before it acts: `confirm` returns if it may, and what it raises the action fails of."""

    def __init__(self, launcher: Launcher, confirm: Callable[[], Awaitable[None]]) -> None:
        self._launcher = launcher
        self._confirm = confirm

    def open(self) -> Deferred[None]:
        """See Launcher.open."""
        return self._launcher.open()

    def close(self) -> Deferred[None]:
        """See Launcher.close."""
        return self._launcher.close()

    def start(self, spec: ServerSpec) -> Deferred[ServerFile]:
        """See Launcher.start."""
        return Deferred.fromCoroutine(self._start(spec))

    async def _start(self, spec: ServerSpec) -> ServerFile:
        await self._confirm()
        return await self._launcher.start(spec)

    def look(self, home: str) -> Deferred[ServerFile | None]:
        """See Launcher.look."""
        return self._launcher.look(home)

    def stop(self, home: str) -> Deferred[None]:
        """See Launcher.stop."""
        return Deferred.fromCoroutine(self._stop(home))

    async def _stop(self, home: str) -> None:
        await self._confirm()
        await self._launcher.stop(home)

    def on_exit(self, ended: Callable[[str], None]) -> None:
        """See Launcher.on_exit."""
        self._launcher.on_exit(ended)

    def destroy(self, home: str) -> Deferred[None]:
        """See Launcher.destroy. Stopping takes a while, after which it is asked again: data does not come back."""
        return Deferred.fromCoroutine(self._destroy(home))

    async def _destroy(self, home: str) -> None:
        await self._stop(home)
        await self._confirm()
        await self._launcher.destroy(home)
