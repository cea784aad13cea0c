"""How balancers find each other: nobody begins the same replica twice."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from lbnode.acquaintance import Acquaintance, Roster, Told, Unwelcome
from lbnode.voters import BalancerRecord, founders

NAMES = dict.fromkeys("abc")
MEMBERS = founders({"a": "ia", "b": "ib", "c": "ic"})


def new(name: str, incarnation: str = "", roster: Roster | None = None, *, wants_back: bool = False) -> Acquaintance:
    """Return what a balancer knows when it begins; its directory's incarnation is by default that of MEMBERS."""
    return Acquaintance(name, NAMES, incarnation or f"i{name}", roster, wants_back=wants_back)


def talk(*balancers: tuple[str, Acquaintance], rounds: int = 3) -> None:
    """Let balancers tell each other what they know, several times."""
    for _ in range(rounds):
        told = [(name, one.telling()) for name, one in balancers]
        for name, one in balancers:
            hear(one, ((other, said) for other, said in told if other != name))


def hear(one: Acquaintance, told: Iterable[tuple[str, Told]]) -> None:
    """Let a balancer hear what others say."""
    for other, said in told:
        one.hear(other, said.seen[other], said)


class FoundingTests(SynchronousTestCase):
    def test_all_are_new(self) -> None:
        """When all have seen the same they are the founders, all with the same replica ids."""
        a, b, c = new("a"), new("b"), new("c")

        talk(("a", a), ("b", b), ("c", c))

        self.assertEqual([one.members for one in (a, b, c)], [MEMBERS] * 3)
        self.assertTrue(any(one.founds for one in (a, b, c)))

    def test_two_of_three_do_not_begin(self) -> None:
        """The third one may be a member already and know more."""
        a, b = new("a"), new("b")

        talk(("a", a), ("b", b))

        self.assertFalse(a.admitted or b.admitted)
        self.assertEqual(a.waiting_for, ["c"])

    def test_one_that_changed_meanwhile(self) -> None:
        """Nobody begins before all have seen the same: one that was emptied and began anew is seen anew."""
        a, b, c = new("a"), new("b"), new("c", "older")
        hear(a, [("c", c.telling()), ("b", b.telling())])
        c = new("c")

        a.hear("b", "ib", b.telling())
        self.assertFalse(a.admitted)
        talk(("a", a), ("b", b), ("c", c))

        self.assertEqual([one.members for one in (a, b, c)], [MEMBERS] * 3)

    def test_a_straggler_is_known_to_the_others(self) -> None:
        """One that died before it kept what was agreed is told by any other."""
        c = new("c")

        c.hear("a", "ia", new("a", roster=Roster(MEMBERS)).telling())

        self.assertEqual(c.members, MEMBERS)
        self.assertFalse(c.founds)


class LostTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Take a member that knows the three."""
        self.a = new("a", roster=Roster(MEMBERS, begun=True))

    def test_an_empty_directory_is_told_from_the_one_that_took_part(self) -> None:
        """It would vote a second time; it must not start."""
        error = self.assertRaises(Unwelcome, hear, new("c", "other"), [("a", self.a.telling())])

        self.assertIn("--rejoin", str(error))

    def test_one_that_wants_back_waits_for_its_new_id(self) -> None:
        """It takes part once the catalog has given it another replica id, and only then."""
        c = new("c", "other", wants_back=True)
        hear(c, [("a", self.a.telling())])
        waited = not c.admitted
        after = {**MEMBERS, "c": BalancerRecord(4, "other")}
        self.a.learn(after)
        hear(c, [("a", self.a.telling())])

        self.assertTrue(waited)
        self.assertEqual(c.members, after)

    def test_where_nobody_took_part_yet(self) -> None:
        """Wanting back what never was is to begin with the others."""
        c = new("c", wants_back=True)

        talk(("a", new("a")), ("b", new("b")), ("c", c))

        self.assertEqual(c.members, MEMBERS)

    def test_the_old_directory_comes_back(self) -> None:
        """One that was replaced learns it from whoever knows the newer one, not from who lags behind."""
        after = {**MEMBERS, "c": BalancerRecord(4, "other")}
        old, replaced = new("c", roster=Roster(MEMBERS, begun=True)), new("c", "other", Roster(after, begun=True))

        replaced.hear("a", "ia", self.a.telling())
        self.a.learn(after)
        error = self.assertRaises(Unwelcome, hear, old, [("a", self.a.telling())])

        self.assertIn("was replaced", str(error))
        self.assertEqual(replaced.members, after)
        self.assertRaises(Unwelcome, old.learn, after)
