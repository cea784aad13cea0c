"""Consistent hashing over the replicas of one shard: which server takes a read, and who is asked next if it is down.

A ring has a fixed number of slots. Every server claims up to `virtual_servers` of them: each claim starts at the slot
that BLAKE2b names (the same in every process) and goes clockwise to the first slot that is free. A request falls on
a slot and belongs to the first claimed slot at or after it (Karger et al., "Consistent Hashing and Random Trees",
1997).

Claims are kept, not computed anew: a server that comes takes slots for itself only, a server that goes gives back its
own and moves no other. Rings are values; the router replaces one by another.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Slots of a ring unless the operator says otherwise; the course's number.
SLOTS = 512
#: Claims per server. Three servers claim 480 of 512 slots, so whatever their names are, none answers for more than
#: 160 + 32 slots: 37.5 % of the reads. With the course's 9 the busiest of three has 43 % on average, and more than half
#: of the reads with unlucky names.
VIRTUAL_SERVERS = 160

_WORD = (1 << 64) - 1
#: 2^64 divided by the golden ratio: consecutive numbers times this spread evenly (Knuth, TAOCP 3, §6.4).
_GOLDEN = 0x9E3779B97F4A7C15


class Ring:
    """The claimed slots of one shard's servers, and the order in which servers are asked for each slot."""

    __slots__ = ("_claims", "_orders", "_salt", "_slots", "_virtual_servers", "servers")

    def __init__(self, claims: tuple[str | None, ...], *, salt: str, virtual_servers: int) -> None:
        self._claims = claims
        self._salt = salt
        self._slots = len(claims)
        self._virtual_servers = virtual_servers
        #: The servers that have at least one slot, in the order of their first claim.
        self.servers = tuple(dict.fromkeys(name for name in claims if name is not None))
        self._orders = _orders(claims)

    @classmethod
    def empty(cls, *, salt: str = "", slots: int = SLOTS, virtual_servers: int = VIRTUAL_SERVERS) -> Ring:
        """Return a ring without servers; rings of different `salt` (shards) are independent of each other."""
        if slots < 1 or virtual_servers < 1:
            raise ValueError(
                f"a ring needs at least one slot and one virtual server, not {slots} and {virtual_servers}"
            )
        return cls((None,) * slots, salt=salt, virtual_servers=virtual_servers)

    def changed_to(self, servers: Iterable[str]) -> Ring:
        """Return the ring of exactly these servers, keeping the slots of those that stay."""
        wanted = tuple(dict.fromkeys(servers))
        ring = self
        for name in self.servers:
            if name not in wanted:
                ring = ring.without(name)
        for name in wanted:
            if name not in ring.servers:
                ring = ring.joined_by(name)
        return ring

    def without(self, server: str) -> Ring:
        """Return the ring after `server` gave back its slots; no slot of another server moves."""
        return self._with_claims([None if name == server else name for name in self._claims])

    def joined_by(self, server: str) -> Ring:
        """Return the ring after `server` claimed its slots; a slot that moves, moves to `server`.

        On a full ring it takes slots from those that have more than an equal share, so nobody is left without one.
        """
        share = self._slots // (len(self.servers) + 1)
        claims = list(self._claims)
        counts = {name: claims.count(name) for name in self.servers}
        for number in range(min(self._virtual_servers, share)):
            at = self._first_claimable(claims, counts, share, self._position(server, number))
            previous = claims[at]
            if previous is not None:
                counts[previous] -= 1
            claims[at] = server
            counts[server] = share  # its own claims are never taken again
        return self._with_claims(claims)

    def order(self, request_number: int) -> tuple[str, ...]:
        """Return the servers to ask for a request, the first choice first; empty on an empty ring."""
        return self._orders[((request_number * _GOLDEN & _WORD) * self._slots) >> 64]

    def shares(self) -> dict[str, float]:
        """Return which fraction of all requests each server is the first choice for."""
        firsts = [order[0] for order in self._orders if order]
        return {name: firsts.count(name) / self._slots for name in self.servers}

    def _with_claims(self, claims: list[str | None]) -> Ring:
        return Ring(tuple(claims), salt=self._salt, virtual_servers=self._virtual_servers)

    def _position(self, server: str, number: int) -> int:
        digest = blake2b(f"{self._salt}\0{server}\0{number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") * self._slots >> 64

    def _first_claimable(self, claims: list[str | None], counts: dict[str, int], share: int, start: int) -> int:
        """Find the next free slot clockwise; if none is free, the next one of a server above its share."""
        if None in claims:
            return claims.index(None, start) if None in claims[start:] else claims.index(None)
        clockwise = chain(range(start, self._slots), range(start))
        return next(at for at in clockwise if counts[claims[at] or ""] > share)


def _orders(claims: tuple[str | None, ...]) -> tuple[tuple[str, ...], ...]:
    """List for each slot all servers in the order in which a walk clockwise from it first meets them."""
    orders: list[tuple[str, ...]] = [()] * len(claims)
    following: dict[str, None] = {}
    # Two rounds counter-clockwise: the first only learns what lies beyond the last slot.
    order: tuple[str, ...] = ()
    for at in range(2 * len(claims) - 1, -1, -1):
        name = claims[at % len(claims)]
        if name is not None and (not order or order[0] != name):
            following = {name: None, **{other: None for other in following if other != name}}
            order = tuple(following)
        orders[at % len(claims)] = order
    return tuple(orders)
