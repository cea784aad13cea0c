"""Carries out what lbnode.membership finds to be next, on all shards side by side.

A step that fails, or whose outcome is not known, is no misfortune: the next round looks at what is there and goes on
from that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from twisted.logger import Logger

from dbnode.wire import ReplicaStatus
from lbnode.catalog_group import CatalogGroup
from lbnode.concurrent import together
from lbnode.control import ReplicaWatch
from lbnode.leaders import Handover
from lbnode.membership import Change, Step, Waiting, next_step
from lbnode.table import ShardRecord


class Reshape:
    """Moves the groups' memberships towards the catalog. `watch` asks the servers of the shards."""

    _log = Logger()

    def __init__(self, catalog: CatalogGroup, watch: ReplicaWatch) -> None:
        self._catalog = catalog
        self._watch = watch
        self._doing: dict[int, str] = {}
        #: Steps carried out since the start, by kind, for /metrics.
        self.steps: dict[str, int] = {"change": 0, "handover": 0, "note": 0, "failure": 0}

    def doing(self, group_id: int) -> str:
        """Return what is being done about a shard's replicas, or waited for; "" if all is as it should be."""
        return self._doing.get(group_id, "")

    def forget(self) -> None:
        """Do nothing about any replica: somebody else does."""
        self._doing.clear()

    async def round(
        self, shards: Iterable[ShardRecord], known: Mapping[int, ReplicaStatus], held: Collection[int] = ()
    ) -> bool:
        """Take one step on each shard; return whether any was taken, so that looking again at once is worth it.

        `known` and `held` are those of lbnode.membership.next_step.
        """
        return any(await together(self._one(shard, next_step(shard, known, held)) for shard in shards))

    async def _one(self, shard: ShardRecord, step: Step | None) -> bool:
        words = _words(step)
        if words and self._doing.get(shard.group_id, "").partition(":")[0] != words.partition(":")[0]:
            self._log.info("{shard}: {words}", shard=shard.shard, words=words)
        self._doing[shard.group_id] = words
        if step is None or isinstance(step, Waiting):
            return False
        kind = await self._carry_out(shard, step)
        self.steps[kind] += 1
        return kind != "failure"

    async def _carry_out(self, shard: ShardRecord, step: Step) -> str:
        """Do it and return its kind."""
        if isinstance(step, Change):
            failure = await self._watch.reconfigure(step)
            if failure:
                self._doing[shard.group_id] = f"{step.why}: {failure}"
            return "failure" if failure else "change"
        if isinstance(step, Handover):
            await self._watch.hand_over(step)
            return "handover"
        assert not isinstance(step, Waiting)
        await self._catalog.propose(step)
        return "note"


def _words(step: Step | None) -> str:
    """Say what a step is; what it notes in the catalog is no news."""
    match step:
        case Change():
            return step.why
        case Waiting():
            return f"waiting: {step.why}"
        case Handover():
            return f"{step.leader} hands over to replica {step.replica_id}"
    return ""
