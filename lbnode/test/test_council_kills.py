"""kill -9 of the controller at each step of /init, /add and /rm: another balancer brings it to an end, either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lbnode.test.company_world import CompanyWorld, Member
from lbnode.test.test_council import READ, ROW, TABLE

ADD = {"n": 1, "servers": {"D": ["sh1"]}}
REMOVE = {"n": 1, "servers": ["C"]}


class KillTests(SynchronousTestCase):
    """Each step of the launcher and of telling servers their part, before it and after it."""

    def try_all(self, operation: tuple[str, str, Any], *, made: bool, before: set[str], after: set[str]) -> None:
        """Kill the controller at each step of an operation on three servers, or on none if there is no table `made`.

        In the end there are the servers of `before` or of `after`, each shard serves, and no row is lost.
        """
        step, done = 0, False
        statuses = set()
        while not done:
            world = CompanyWorld(Path(self.mktemp()))
            controller = self.prepared(world, made=made)
            status, done = self.killed_at(step, world, controller, operation)
            statuses.add(status)
            self.check(world, [after] if status == 200 else [before, after], made=made, step=step)
            step += 1
        self.assertEqual(statuses, {200, 504})

    def prepared(self, world: CompanyWorld, *, made: bool) -> Member:
        """Return the controller of three balancers."""
        controller = world.start_all()
        if made:
            self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
            self.assertEqual(controller.ask("POST", "/write", {"data": [ROW]}).status, 200)
        return controller

    def killed_at(
        self, step: int, world: CompanyWorld, controller: Member, operation: tuple[str, str, Any]
    ) -> tuple[int, bool]:
        """Kill a controller at a step; return what its client was told, and whether it had ended before that step."""
        controller.fuse.left = controller.fuse.taken + step
        other = world.others(controller)[0]
        call = other.begin(*operation)
        world.until(lambda: call.answered or controller.fuse.burnt)
        ended = call.answered
        controller.kill()
        status = call.reply().status
        self.assertIn(status, (200,) if ended else (200, 503, 504))
        return status, ended

    def check(self, world: CompanyWorld, ends: list[set[str]], *, made: bool, step: int) -> None:
        """Check that the next controller settles what was begun."""
        successor = world.until_controller()

        def settled() -> bool:
            catalog = successor.balancer.catalog
            at_rest = all(shard.settled for shard in catalog.table.shards) if catalog.table is not None else True
            return catalog.operation is None and at_rest and set(world.launcher.running) in ends

        world.until(settled)
        homes = {server.home for server in successor.balancer.catalog.servers().values()}
        self.assertEqual((homes, world.launcher.homes), (set(world.launcher.running),) * 2, f"step {step}")
        self.assertEqual(world.fatal, [])
        if homes:
            other = world.others(successor)[0]
            world.until(lambda: other.ask("GET", "/readyz").status == 200)
            self.assertEqual(other.ask("POST", "/read", READ).json["data"], [ROW] if made else [])

    def test_init(self) -> None:
        """There is a table, or nothing at all."""
        self.try_all(("POST", "/init", TABLE), made=False, before=set(), after={"A", "B", "C"})

    def test_add(self) -> None:
        """The new server is there with its replica, or without a trace."""
        self.try_all(("POST", "/add", ADD), made=True, before={"A", "B", "C"}, after={"A", "B", "C", "D"})

    def test_rm(self) -> None:
        """The server is gone, or as it was."""
        self.try_all(("DELETE", "/rm", REMOVE), made=True, before={"A", "B", "C"}, after={"A", "B"})
