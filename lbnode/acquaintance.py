"""How the balancers of a cluster find each other, and how one that lost its data directory is told from the one it was.

Pure: what a balancer says comes in, what this one believes comes out. A replica of the catalog may be begun only once,
or it could vote twice (RAFT_RULES 10, 32), so nobody begins one on its own authority:

- all are new: every balancer says which incarnations it has seen, and when each of them has seen the same ones, itself
  included, those are the founders. So all of them must be up the first time.
- somebody knows this very incarnation as a member: it may begin, or go on.
- somebody knows another incarnation under this name: this data directory is not the one that took part. Unless its
  operator wants it back under a new id, the balancer must not start.

What was learned is kept on disk before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lbnode.voters import BalancerRecord, founders


class Unwelcome(Exception):
    """The others do not know this balancer's data directory; the message says what to do."""


class Roster(msgspec.Struct, frozen=True):
    """The members, as far as this balancer knows. `begun`: its own replica exists, and must not be begun again."""

    members: dict[str, BalancerRecord]
    begun: bool = False


class Told(msgspec.Struct, frozen=True):
    """What a balancer says of members and of incarnations that it has seen, its own among them."""

    members: dict[str, BalancerRecord]
    seen: dict[str, str]


class Acquaintance:
    """The balancer `name` among `names`, with a data directory of this incarnation.

    `roster` is what it knew before, None if nothing; `wants_back` if its operator says that its old data is gone.
    """

    def __init__(
        self, name: str, names: Mapping[str, object], incarnation: str, roster: Roster | None, *, wants_back: bool
    ) -> None:
        self._name = name
        self._names = frozenset(names)
        self._incarnation = incarnation
        self._wants_back = wants_back
        self._told: dict[str, Told] = {}
        self._seen = {name: incarnation}
        self.members = roster.members if roster is not None else {}
        #: Whether this balancer has just become one of the founders of a new catalog.
        self.founds = False

    @property
    def admitted(self) -> bool:
        """Whether this balancer is a member, as far as it knows."""
        return bool(self.members)

    @property
    def waiting_for(self) -> list[str]:
        """The balancers that were not heard yet."""
        return sorted(self._names - self._seen.keys())

    def telling(self) -> Told:
        """Return what there is to say to the others."""
        return Told(self.members, dict(self._seen))

    def hear(self, name: str, incarnation: str, told: Told) -> None:
        """Take what another balancer says; raises Unwelcome."""
        self._seen[name] = incarnation
        self._told[name] = told
        known = told.members.get(self._name)
        if known is not None and known.incarnation == self._incarnation:
            self._adopt(told.members)
        elif known is not None:
            self._contradicted(name, known)
        elif not self.admitted:
            self._maybe_found()

    def learn(self, members: dict[str, BalancerRecord]) -> None:
        """Take what the catalog says; raises Unwelcome."""
        known = members.get(self._name)
        if known is not None and known.incarnation == self._incarnation:
            self.members = members
        elif known is not None:
            self._contradicted("the catalog", known)

    def _adopt(self, members: dict[str, BalancerRecord]) -> None:
        if not self.admitted:
            self.members = members

    def _contradicted(self, who: str, known: BalancerRecord) -> None:
        own = self.members.get(self._name)
        if own is not None and known.replica_id <= own.replica_id:
            return  # it does not know yet that we came back
        if own is not None:
            raise Unwelcome(
                f"{self._name} was replaced: {who} knows it by another data directory, which has taken this one's "
                "place; start that one, or begin anew with an empty directory and --rejoin"
            )
        if not self._wants_back:
            raise Unwelcome(
                f"{who} knows {self._name} by another data directory: bring that one back, or, if it is lost, "
                "begin once with --rejoin to take part under a new id"
            )

    def _maybe_found(self) -> None:
        """Found the group if all have seen the same, and none of them has founded it."""
        if self._seen.keys() != self._names:
            return
        others = [self._told[name] for name in self._names - {self._name}]
        if all(told.seen == self._seen and not told.members for told in others):
            self.members = founders(self._seen)
            self.founds = True
