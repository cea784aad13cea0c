"""The ring: how even it is, what moves when servers come and go, and who is asked next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from lbnode.ring import SLOTS, Ring


def ring_of(*servers: str, salt: str = "sh1") -> Ring:
    """Return a default ring of these servers."""
    return Ring.empty(salt=salt).changed_to(servers)


def triples(count: int) -> list[tuple[str, str, str]]:
    """Return so many triples of different server names, of several kinds."""
    out = []
    for n in range(count):
        kind = ("Server{}", "db-{}.internal", "{}", "сервер {}")[n % 4]
        out.append((kind.format(3 * n), kind.format(3 * n + 1), kind.format(3 * n + 2)))
    return out


def first_choices(ring: Ring) -> list[str]:
    """Return who answers for each slot, found by asking for many requests."""
    owner: dict[int, str] = {}
    for number in range(40 * SLOTS):
        slot = ((number * 0x9E3779B97F4A7C15 & (1 << 64) - 1) * SLOTS) >> 64
        owner[slot] = ring.order(number)[0]
    assert len(owner) == SLOTS
    return [owner[slot] for slot in range(SLOTS)]


class Evenness(SynchronousTestCase):
    def test_busiest_of_three_stays_under_forty_percent(self) -> None:
        """Whatever three servers are called, none of them is the first choice for 40 % of the requests."""
        busiest = [max(ring_of(*names).shares().values()) for names in triples(200)]

        self.assertLess(max(busiest), 0.40)

    def test_courses_ring_is_less_even(self) -> None:
        """With the course's 9 virtual servers the busiest of three has more than 40 % on average."""
        rings = [Ring.empty(virtual_servers=9).changed_to(names) for names in triples(200)]

        mean = sum(max(ring.shares().values()) for ring in rings) / len(rings)

        self.assertGreater(mean, 0.40)

    def test_consecutive_requests_spread_as_the_shares_say(self) -> None:
        """Requests numbered one after the other reach each server in proportion to its slots."""
        ring = ring_of("Server0", "Server1", "Server2")

        counts = Counter(ring.order(number)[0] for number in range(10_000))

        for name, share in ring.shares().items():
            self.assertLess(abs(counts[name] / 10_000 - share), 0.01)

    def test_many_servers_share_a_full_ring_equally(self) -> None:
        """Eight servers on 512 slots have 64 slots each."""
        ring = ring_of(*(f"Server{n}" for n in range(8)))

        self.assertEqual(set(ring.shares().values()), {64 / SLOTS})

    def test_shards_have_rings_of_their_own(self) -> None:
        """The same servers divide the slots of two shards differently."""
        servers = ("Server0", "Server1", "Server2")

        self.assertNotEqual(first_choices(ring_of(*servers, salt="sh1")), first_choices(ring_of(*servers, salt="sh2")))


class Changes(SynchronousTestCase):
    def test_removing_a_server_moves_only_its_own_slots(self) -> None:
        """A slot that did not belong to the server removed belongs to whom it belonged before."""
        for names in triples(20):
            before = ring_of(*names, "Server999")
            after = before.changed_to(names)

            moved = {old for old, new in zip(first_choices(before), first_choices(after), strict=True) if old != new}

            self.assertEqual(moved, {"Server999"})
            self.assertEqual(set(after.shares()), set(names))

    def test_adding_a_server_moves_slots_only_to_it(self) -> None:
        """A slot that changes hands when a server comes goes to that server, on a full ring too."""
        for count in (1, 3, 4, 9):
            names = [f"Server{n}" for n in range(count)]
            before = ring_of(*names)
            after = before.changed_to([*names, "New"])

            moved = {new for old, new in zip(first_choices(before), first_choices(after), strict=True) if old != new}

            self.assertEqual(moved, {"New"})
            self.assertLess(abs(after.shares()["New"] - 1 / (count + 1)), 0.1)

    def test_replacing_a_server_keeps_the_ring_even(self) -> None:
        """After a hundred replacements the busiest of three is still under 40 %."""
        ring = ring_of("Server0", "Server1", "Server2")
        for n in range(3, 103):
            ring = ring.changed_to([f"Server{n - 2}", f"Server{n - 1}", f"Server{n}"])

        self.assertLess(max(ring.shares().values()), 0.40)

    def test_unchanged_servers_give_the_same_ring(self) -> None:
        """Naming the same servers in another order moves nothing."""
        ring = ring_of("Server0", "Server1", "Server2")

        same = ring.changed_to(["Server2", "Server0", "Server1", "Server0"])

        self.assertEqual(first_choices(same), first_choices(ring))


class Order(SynchronousTestCase):
    def test_every_server_is_asked_once(self) -> None:
        """Each request has an order in which every server appears exactly once."""
        names = ("Server0", "Server1", "Server2", "Server3")
        ring = ring_of(*names)

        for number in range(2 * SLOTS):
            self.assertEqual(sorted(ring.order(number)), sorted(names))

    def test_second_choice_is_the_owner_after_removal(self) -> None:
        """Where a server is the first choice, the second is who answers once that server is removed."""
        ring = ring_of("Server0", "Server1", "Server2")
        smaller = ring.changed_to(["Server0", "Server2"])

        for number in range(2 * SLOTS):
            first, second, _third = ring.order(number)
            expected = second if first == "Server1" else first
            self.assertEqual(smaller.order(number)[0], expected)

    def test_empty_ring_has_nobody_to_ask(self) -> None:
        """A ring without servers gives an empty order."""
        self.assertEqual(Ring.empty().order(7), ())

    def test_more_servers_than_slots(self) -> None:
        """On a ring with fewer slots than servers the late ones stay without a slot, the others keep theirs."""
        ring = Ring.empty(slots=2).changed_to(["a", "b", "c"])

        self.assertEqual(sorted(ring.servers), ["a", "b"])

    def test_ring_needs_a_slot_and_a_virtual_server(self) -> None:
        """Zero slots or zero virtual servers are refused at once."""
        self.assertRaises(ValueError, Ring.empty, slots=0)
        self.assertRaises(ValueError, Ring.empty, virtual_servers=0)

    def test_order_is_the_same_in_every_process(self) -> None:
        """Another process with another hash seed chooses the same servers."""
        program = (
            "from lbnode.ring import Ring\n"
            "ring = Ring.empty(salt='sh1').changed_to(['Server0', 'Server1', 'Server2'])\n"
            "print([ring.order(n)[0] for n in range(64)])\n"
        )
        ring = ring_of("Server0", "Server1", "Server2")

        printed = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": "12345"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout

        self.assertEqual(printed.strip(), str([ring.order(n)[0] for n in range(64)]))
