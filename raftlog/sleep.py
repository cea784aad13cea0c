"""The sleep of idle groups: their time stands still, and they cost nothing (RAFT_RULES 40).

A group in which nothing happens needs no heartbeats of its own: its leader lets it sleep, and one heartbeat from
server to server stands for all of them. Whatever happens to a sleeping group wakes it: a request, any message of the
group, or the news that a server with one of its replicas fell silent or was restarted. Sleep decides nothing:
elections, reads and commitment are what they are in a group that is awake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raftlog.group import Group
from raftlog.link import Lane
from raftlog.liveness import Liveness
from raftlog.messages import Alive, Quiesce
from raftlog.options import Times


class Sleep:
    """Passes time to the groups that are awake. `groups` are all groups of the Node, which owns them.

    `boot` is a number that tells this process from others on the same server; `send` is the transport's, `is_full`
    tells whether this server's disk is nearly full.
    """

    def __init__(
        self,
        groups: Mapping[int, Group],
        times: Times,
        boot: int,
        send: Callable[[str, Lane, Any], bool],
        is_full: Callable[[], bool],
    ) -> None:
        self._groups = groups
        self._times = times
        self._send = send
        self._is_full = is_full
        # The last one that can be spared is followed by one that comes before a silence begins.
        spared_max = max(0, times.election_ticks // times.heartbeat_ticks - 2)
        self._liveness = Liveness(boot, times.election_ticks, spared_max)
        self._ticking: dict[int, Group] = {}
        self._ticks = 0

    def add(self, group: Group) -> None:
        """Let a new group's time pass."""
        self._ticking[group.group_id] = group
        self.meet_neighbours()

    def remove(self, group_id: int) -> None:
        """Forget a group, which is no longer among the groups."""
        self._ticking.pop(group_id, None)
        self.meet_neighbours()

    def meet_neighbours(self) -> None:
        """Find out which servers share a group with this one."""
        groups = self._groups.values()
        own = next((group.peers.get(group.replica_id, "") for group in groups), "")
        self._liveness.set_neighbours(own, {server for group in groups for server in group.peers.values()})

    def may_lead(self, server: str) -> bool:
        """Return whether a server is alive and its disk has room."""
        return self._liveness.may_lead(server)

    def is_silent(self, server: str) -> bool:
        """Return whether a server was not heard for the time of an election."""
        return self._liveness.is_silent(server)

    def tick(self, now_seconds: float, round_seconds_max: float) -> None:
        """Let one tick pass."""
        self._ticks += 1
        for group in list(self._ticking.values()):
            group.tick(now_seconds, round_seconds_max)
            if group.quiet.asleep:
                del self._ticking[group.group_id]
            elif group.may_sleep():
                self._let_sleep(group)
        if self._ticks % self._times.heartbeat_ticks == 0:
            self._greet()
        for server in self._liveness.tick():
            self._missed(server)

    def wake(self, group: Group) -> None:
        """Let a sleeping group's time go on, since something happens to it."""
        group.quiet.wake_up()
        self._ticking[group.group_id] = group

    def asked(self, group: Group, item: Quiesce) -> None:
        """Take a leader's request to sleep, but not from a server that is silent: it may never be missed again."""
        server = group.peers.get(item.from_)
        if server is None or self._liveness.is_silent(server):
            return
        group.take_quiesce(item)
        if group.quiet.asleep:
            self._ticking.pop(group.group_id, None)

    def sent(self, server: str) -> None:
        """Take note of a message to another server, which tells it that this one lives."""
        self._liveness.sent(server)

    def heard_of(self, server: str) -> None:
        """Take note of a message that another server sent itself."""
        self._liveness.heard_of(server)

    def heard(self, item: Alive) -> None:
        """Take another server's greeting."""
        if self._liveness.heard(item):
            self._missed(item.server)

    def ended(self, server: str) -> None:
        """Take the news that a server's process has ended."""
        self._missed(server)
        for group in self._groups.values():
            # Who cannot be elected keeps its leader: its questions wake that one, should it live.
            if group.peers.get(group.leader_id) == server and group.raw.raft.promotable:
                group.forget_leader()

    def _greet(self) -> None:
        due = self._liveness.to_greet(self._is_full())
        greeting = self._liveness.greeting()
        for server in due:
            if self._send(server, Lane.CONTROL, greeting):
                self._liveness.greeted(server)

    def _let_sleep(self, group: Group) -> None:
        if any(self._liveness.is_silent(server) for server in group.peers.values()):
            return
        for told in group.quiet.fall_asleep():
            server = group.peers.get(told.to)
            if server is not None:
                self._send(server, Lane.CONTROL, told)
        del self._ticking[group.group_id]

    def _missed(self, server: str) -> None:
        """Wake the groups that a server's process no longer cares for, as it is silent or was restarted.

        Those that it led elect another leader soon.
        """
        for group in self._groups.values():
            if server not in group.peers.values():
                continue
            group.quiet.stay_awake()
            if group.quiet.asleep:
                self.wake(group)
            if group.peers.get(group.leader_id) == server:
                group.miss_leader()
