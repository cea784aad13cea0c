"""Giving leadership away before this server stops, so that its shards need no election."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dbnode.serving import Serving
from raftlog.node import Node

#: How often it is looked whether the others lead by now.
_POLL_SECONDS = 0.025


async def hand_over(
    clock: IReactorTime, node: Node, serving: Serving, connected: Callable[[str], bool], timeout_seconds: float
) -> int:
    """Transfer every group led here to a voter on a connected server; return how many are still led here.

    Returns when none is, or after `timeout_seconds`; a group without another voter in reach stays.
    """
    deadline_seconds = clock.seconds() + timeout_seconds
    leaving = [group_id for group_id in serving.replicas if serving.leads(group_id)]
    leaving = [group_id for group_id in leaving if _transfer(node, serving, group_id, connected)]
    while leaving and clock.seconds() < deadline_seconds:
        await deferLater(clock, _POLL_SECONDS)
        leaving = [group_id for group_id in leaving if serving.leads(group_id)]
    return len(leaving)


def _transfer(node: Node, serving: Serving, group_id: int, connected: Callable[[str], bool]) -> bool:
    own = serving.replicas[group_id].replica_id
    for replica_id in node.status(group_id).conf_state.voters:
        server = serving.peers[group_id].get(replica_id, "")
        if replica_id != own and connected(server):
            node.transfer_leader(group_id, replica_id)
            return True
    return False
