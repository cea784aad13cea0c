"""What every Launcher promises, as tests; whoever has a launcher inherits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dbnode.wire import ServerFile
from lbnode.launchers import Launcher, LostHome, ServerSpec

SPEC = ServerSpec("Server0", "Server0", "c1")


def who(file: ServerFile | None) -> tuple[int, int]:
    """Return which process it is."""
    assert file is not None
    return file.pid, file.started_at


if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class LauncherContract(_Base):
    """Tests of `self.launcher`; homes are cleaned away afterwards."""

    launcher: Launcher

    async def turn(self) -> None:
        """Let what happened be heard of."""
        raise NotImplementedError

    async def test_a_started_server_is_found(self) -> None:
        """It says who it is and where it listens, and so says whoever looks."""
        self.assertIsNone(await self.launcher.look("Server0"))

        file = await self.launcher.start(SPEC)

        self.assertEqual((file.name, file.cluster_id), ("Server0", "c1"))
        self.assertIsNotNone(file.link)
        self.assertEqual(await self.launcher.look("Server0"), file)

    async def test_to_start_what_runs_is_to_find_it(self) -> None:
        """There is never a second server on a home."""
        first = await self.launcher.start(SPEC)

        again = await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

        self.assertEqual(who(again), who(first))

    async def test_a_stopped_server_can_be_started_again(self) -> None:
        """It is another process with the same data."""
        first = await self.launcher.start(SPEC)

        await self.launcher.stop("Server0")
        self.assertIsNone(await self.launcher.look("Server0"))
        second = await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))

        self.assertEqual(second.incarnation, first.incarnation)
        self.assertNotEqual(who(second), who(first))

    async def test_its_end_is_heard_of(self) -> None:
        """Whoever looked at a server is told as soon as it ended."""
        ended: Deferred[str] = Deferred()
        self.launcher.on_exit(lambda home: None if ended.called else ended.callback(home))
        await self.launcher.start(SPEC)
        await self.launcher.look("Server0")

        await self.launcher.stop("Server0")
        await self.turn()

        self.assertTrue(ended.called)
        self.assertEqual(await ended, "Server0")

    async def test_a_destroyed_server_is_forgotten(self) -> None:
        """On its home another one can be made, and nothing starts that expects the old data."""
        first = await self.launcher.start(SPEC)

        await self.launcher.destroy("Server0")

        self.assertIsNone(await self.launcher.look("Server0"))
        with self.assertRaises(LostHome):
            await self.launcher.start(ServerSpec("Server0", "Server0", "c1", first.incarnation))
        self.assertIsNone(await self.launcher.look("Server0"))
        self.assertNotEqual((await self.launcher.start(SPEC)).incarnation, first.incarnation)

    async def test_what_is_not_there_can_be_stopped_and_destroyed(self) -> None:
        """Whoever repeats a step after a crash does no harm."""
        await self.launcher.stop("nowhere")
        await self.launcher.destroy("nowhere")

        self.assertIsNone(await self.launcher.look("nowhere"))

    async def test_two_servers_of_one_name(self) -> None:
        """They live side by side on different homes; destroying one leaves the other."""
        one = await self.launcher.start(SPEC)
        other = await self.launcher.start(ServerSpec("Server0", "Server0@2", "c1"))

        await self.launcher.destroy("Server0")

        self.assertNotEqual(one.incarnation, other.incarnation)
        self.assertEqual(await self.launcher.look("Server0@2"), other)
