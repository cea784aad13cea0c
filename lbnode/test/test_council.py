"""Three balancers with one catalog, in memory: one of them is the controller, and another one when it is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lbnode.test.balancers import pass_time
from lbnode.test.company_world import CompanyWorld

TABLE: dict[str, Any] = {
    "N": 3,
    "schema": {"columns": ["Stud_id", "Stud_name"], "dtypes": ["Number", "String"]},
    "shards": [{"Stud_id_low": 0, "Shard_id": "sh1", "Shard_size": 100}],
    "servers": {"A": ["sh1"], "B": ["sh1"], "C": ["sh1"]},
}
ROW = {"Stud_id": 1, "Stud_name": "a"}
READ = {"Stud_id": {"low": 0, "high": 99}}


class CouncilTestCase(SynchronousTestCase):
    """A world of balancers; whatever would have ended a process fails the test."""

    def setUp(self) -> None:
        """Make a world without a balancer."""
        self.world = CompanyWorld(Path(self.mktemp()))
        self.addCleanup(lambda: self.assertEqual(self.world.fatal, []))


class ServingTests(CouncilTestCase):
    def test_any_balancer_will_do(self) -> None:
        """/init, changes and reads go through any of them, and all tell who is the controller."""
        controller = self.world.start_all()
        one, other = self.world.others(controller)

        made = one.ask("POST", "/init", TABLE)
        stored = other.ask("POST", "/write", {"data": [ROW]})
        read = one.ask("POST", "/read", READ)

        self.assertEqual((made.status, stored.status), (200, 200), made.body)
        self.assertEqual(read.json["data"], [ROW])
        for member in (controller, one, other):
            status = member.status
            self.assertEqual(status["controller"], controller.name)
            self.assertEqual([balancer["name"] for balancer in status["balancers"]], ["lb1", "lb2", "lb3"])
            self.assertEqual({balancer["lag"] for balancer in status["balancers"]}, {0})
            self.assertEqual([state["state"] for state in status["server_states"].values()], ["up"] * 3)
            self.assertEqual(member.ask("GET", "/readyz").status, 200)
        self.assertEqual({who for who, _, _ in self.world.acts}, {controller.name})

    def test_before_there_is_a_catalog(self) -> None:
        """A balancer that waits for the others says so, and takes no request for a table that it does not know."""
        alone = self.world.start("lb1")
        pass_time(self.world.clock, until=lambda: False, seconds_max=5)

        for method, path, body, code in (
            ("POST", "/write", {"data": [ROW]}, "no_catalog"),
            ("POST", "/init", TABLE, "no_controller"),
            ("GET", "/readyz", None, "not_ready"),
        ):
            reply = alone.ask(method, path, body)
            self.assertEqual((reply.status, reply.json["code"]), (503, code))
        self.assertEqual([one["state"] for one in alone.status["balancers"]], ["here", "away", "away"])


class TakingOverTests(CouncilTestCase):
    def test_the_controller_dies(self) -> None:
        """Another one takes over and starts again what died meanwhile; data was served all the time."""
        controller = self.world.start_all()
        self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
        one, other = self.world.others(controller)

        controller.kill()
        self.assertEqual(one.ask("POST", "/write", {"data": [ROW]}).status, 200)
        successor = self.world.until_controller()
        self.world.launcher.kill("A")
        self.world.until(lambda: "A" in self.world.launcher.running)

        self.assertIn(successor, (one, other))
        self.assertEqual(self.world.acts[-1], (successor.name, "start", "A"))
        self.assertEqual(other.ask("POST", "/read", READ).json["data"], [ROW])

    def test_one_that_stops_hands_over(self) -> None:
        """Ctrl-C at one of three leaves the servers running, and another one takes over at once."""
        controller = self.world.start_all()
        self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
        began_seconds = self.world.clock.seconds()

        controller.stop()
        self.world.until_controller()

        self.assertLess(self.world.clock.seconds() - began_seconds, 1.0)
        self.assertEqual(set(self.world.launcher.running), {"A", "B", "C"})
        self.assertNotIn("stop", [what for _, what, _ in self.world.acts])

    def test_all_die_and_come_back(self) -> None:
        """What was acknowledged is there; two are enough to go on."""
        self.world.start_all()
        self.assertEqual(self.world.members["lb2"].ask("POST", "/init", TABLE).status, 200)
        for member in self.world.members.values():
            member.kill()

        one = self.world.start("lb1")
        self.world.start("lb3")
        self.world.until_controller()

        self.assertEqual(one.status["N"], 3)
        self.assertEqual(one.ask("POST", "/write", {"data": [ROW]}).status, 200)

    def test_one_that_comes_back_alone(self) -> None:
        """It routes by what it knew, and does not say that there is no table when it only has not heard of it."""
        self.world.start_all()
        late = self.world.members["lb2"]
        late.kill()
        self.world.until_controller()
        self.assertEqual(self.world.members["lb1"].ask("POST", "/init", TABLE).status, 200)
        for name in ("lb1", "lb3"):
            self.world.members[name].kill()

        knows = self.world.start("lb1")
        self.assertEqual(knows.ask("POST", "/write", {"data": [ROW]}).status, 200)
        knows.kill()
        unaware = self.world.start("lb2")
        refused = unaware.ask("POST", "/write", {"data": [ROW]})
        self.world.start("lb1")
        self.world.until_controller()

        self.assertEqual((refused.status, refused.json["code"]), (503, "no_catalog"))
        self.assertEqual(unaware.ask("POST", "/read", READ).json["data"], [ROW])

    def test_without_a_majority(self) -> None:
        """The last one serves data but changes nothing of the cluster, and after a while says that it is not ready."""
        controller = self.world.start_all()
        self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
        last, dead = self.world.others(controller)
        controller.kill()
        dead.kill()
        pass_time(self.world.clock, until=lambda: False, seconds_max=5)

        self.assertEqual(last.ask("POST", "/write", {"data": [ROW]}).status, 200)
        self.assertEqual(last.ask("GET", "/readyz").status, 200)
        refused = last.ask("POST", "/add", {"n": 1, "servers": {"D": []}})
        self.assertEqual((refused.status, refused.json["code"]), (503, "no_controller"))
        self.assertEqual(refused.headers["retry-after"], "1")
        pass_time(self.world.clock, until=lambda: False, seconds_max=10)
        self.assertEqual(last.ask("GET", "/readyz").json["code"], "not_ready")


class CutOffTests(CouncilTestCase):
    def test_one_that_is_cut_off_acts_no_more(self) -> None:
        """It starts nothing that dies, although it believes for a while that it is the controller; one is elected."""
        controller = self.world.start_all()
        self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
        began = len(self.world.acts)

        self.world.cut_off(controller.name)
        self.world.launcher.kill("B")
        self.world.until(lambda: "B" in self.world.launcher.running)
        acts = self.world.acts[began:]

        self.assertEqual([(what, home) for _, what, home in acts], [("start", "B")])
        self.assertNotEqual(acts[0][0], controller.name)
        self.world.until(lambda: not controller.is_controller)

    def test_it_comes_back_as_a_follower(self) -> None:
        """What was decided meanwhile is known to it then."""
        controller = self.world.start_all()
        self.world.cut_off(controller.name)
        self.world.until(lambda: bool(self.world.controllers) and controller not in self.world.controllers)
        successor = self.world.controllers[0]
        self.assertEqual(successor.ask("POST", "/init", TABLE).status, 200)

        self.world.heal(controller.name)
        self.world.until_controller()

        self.assertEqual(controller.ask("POST", "/write", {"data": [ROW]}).status, 200)

    def test_an_operation_of_one_that_is_cut_off(self) -> None:
        """Its client learns that nobody knows how it ends; the next controller takes down what was started."""
        controller = self.world.start_all()
        self.world.launcher.network.cut("A", "B")
        self.world.launcher.network.cut("A", "C")
        self.world.launcher.network.cut("B", "C")
        call = controller.begin("POST", "/init", TABLE)
        self.world.until(lambda: len(self.world.launcher.running) == 3)

        self.world.cut_off(controller.name)
        reply = call.reply()
        self.world.until(lambda: not self.world.launcher.homes)

        self.assertEqual((reply.status, reply.json["code"], reply.json["applied"]), (504, "outcome_unknown", "unknown"))
        self.assertNotIn((controller.name, "destroy", "A"), self.world.acts)


class LostTests(CouncilTestCase):
    def test_one_that_lost_its_disk_is_refused(self) -> None:
        """Under its old replica id it might vote a second time."""
        self.world.start_all()
        self.world.members["lb3"].kill()

        again = self.world.start("lb3", wiped=True)
        self.world.until(lambda: bool(again.unwelcome))

        self.assertIn("begin once with --rejoin", again.unwelcome[0])
        self.assertIsNone(again.home.roster)

    def test_it_comes_back_under_a_new_id(self) -> None:
        """It learns, then votes in the place of the old one: with it the loss of another one is survived."""
        controller = self.world.start_all()
        self.assertEqual(controller.ask("POST", "/init", TABLE).status, 200)
        lost = self.world.others(controller)[0]
        lost.kill()

        again = self.world.start(lost.name, wiped=True, wants_back=True)
        self.world.until(lambda: again.status["N"] == 3 if again.home.roster else False)
        self.world.until(lambda: controller.voters == again.voters and again.home.replica_id in again.voters)
        controller.kill()
        self.world.until_controller()

        assert again.home.roster is not None
        self.assertEqual(again.home.roster.members[again.name].replica_id, 4)
        self.assertEqual(again.ask("POST", "/write", {"data": [ROW]}).status, 200)
