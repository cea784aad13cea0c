"""Who the replicas are: changes of membership at random, servers that lose their disk, and repair.

It stands for the operator. Replica ids are counted up and never used again (RAFT_RULES 32); a new replica is a learner
until it has caught up, and takes a dead one's place in one joint change (RAFT_RULES 31). Since what takes place here
must be survivable, at most one voter's data is lost until it is out of everybody's configuration, and a configuration
never has fewer voters than at first; a replica is destroyed only when nobody counts it any more.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from raftlog.confchange import ConfChangeError
from raftlog.errors import GroupError
from raftlog.group import Group
from raftlog.messages import ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState
from raftlog.node import Node
from raftlog.testing.simulation.damage import flip_some_bit
from raftlog.testing.simulation.faults import Fault
from raftlog.testing.simulation.server import SimulatedServer
from raftlog.testing.simulation.world import GROUP, World

#: A learner has caught up when it lacks no more entries than this, and has at least one: else it may not exist at all.
LAG_MAX = 5
REPAIR_SECONDS = 0.3


class Membership:
    """The replicas of a simulation's group, which never has fewer voters than `voters_min`."""

    def __init__(self, world: World, rng: random.Random, servers: dict[str, SimulatedServer], voters_min: int) -> None:
        self._world = world
        self._rng = rng
        self._servers = servers
        self._voters_min = voters_min
        self._last_id = 0
        #: The replica whose data is lost, until nobody counts it any more.
        self._lost = 0
        self._genesis = ConfState(voters=tuple(range(1, self._voters_min + 1)))

    def found(self) -> None:
        """Create the first replicas."""
        for name in list(self._servers)[: self._voters_min]:
            self._create(self._servers[name])

    def _create(self, server: SimulatedServer) -> int:
        replica_id = self._next_id()
        self._world.peers[replica_id] = server.name
        server.create(replica_id, self._genesis)
        return replica_id

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # ---- what is --------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[tuple[Node, Group]]:
        for server in self._servers.values():
            if server.node is not None:
                for group in server.node.open_groups():
                    yield server.node, group

    def leader(self) -> tuple[Node, Group] | None:
        """Return the leader of the highest term, if anybody believes to lead."""
        leaders = [(node, group) for node, group in self._groups() if group.is_leader]
        return max(leaders, key=lambda found: found[1].raw.raft.term, default=None)

    def server_of(self, replica_id: int) -> SimulatedServer | None:
        """Return the server that holds a replica, if any does."""
        server = self._servers[self._world.peers[replica_id]]
        return server if server.replica_id == replica_id else None

    def members(self) -> list[SimulatedServer]:
        """Return the servers of all voters and learners as the leader knows them; empty unless all is as it should."""
        found = self.leader()
        if found is None:
            return []
        state = found[1].raw.conf_state()
        servers = [self.server_of(replica_id) for replica_id in (*state.voters, *state.learners)]
        if state.voters_outgoing or any(server is None for server in servers):
            return []
        return [server for server in servers if server is not None]

    def _agreed(self) -> ConfState | None:
        """Return the configuration if all its members have the same one in effect."""
        found = self.leader()
        if found is None:
            return None
        state = found[1].raw.conf_state()
        known = {group.replica_id: group.raw.conf_state() for _, group in self._groups()}
        members = {*state.voters, *state.learners} - {self._lost}
        return state if all(known.get(member) == state for member in members) else None

    # ---- what may happen ------------------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """Return what may happen besides other faults."""
        return [
            (6, self._add_learner),
            (7, self._promote),
            (2, self._remove),
            (2, self._leave_joint),
            (4, self._transfer),
            (3, self._destroy_removed),
            (2, self._lose_disk),
            (2, self._flip_bit),
        ]

    def _propose(self, *changes: ConfChangeSingle, explicit: bool = False) -> None:
        found = self.leader()
        if found is None:
            return
        transition = ConfChangeTransition.EXPLICIT if explicit else ConfChangeTransition.AUTO
        self._world.tell(f"membership: {' '.join(f'{c.type.name} {c.replica_id}' for c in changes) or 'leave joint'}")
        try:
            proposed = found[0].propose_conf_change(GROUP, ConfChangeV2(transition, changes))
        except ConfChangeError as error:
            self._world.tell(f"membership: refused: {error}")
            return
        _ = proposed.addErrback(lambda failure: failure.trap(GroupError))

    def _state(self) -> ConfState:
        found = self.leader()
        return found[1].raw.conf_state() if found is not None else ConfState()

    def _add_learner(self) -> None:
        free = [s for s in self._servers.values() if s.is_up and not s.paused and s.machine is None]
        if free and self._state().voters:
            replica_id = self._create(self._rng.choice(free))
            self._propose(ConfChangeSingle(ConfChangeType.ADD_LEARNER, replica_id))

    def _caught_up(self) -> list[int]:
        found = self.leader()
        if found is None:
            return []
        raft = found[1].raw.raft
        progress = raft.tracker.progress
        return [
            replica_id
            for replica_id in raft.tracker.membership.conf_state().learners
            if replica_id != self._lost and 0 < progress[replica_id].match >= raft.log.committed - LAG_MAX
        ]

    def _promote(self) -> None:
        """Make learners voters; in a group that is large enough in the place of as many others."""
        voters, ready = self._state().voters, self._caught_up()
        if not ready:
            return
        joining = self._rng.sample(ready, self._rng.randint(1, len(ready)))
        promote = [ConfChangeSingle(ConfChangeType.ADD_VOTER, replica_id) for replica_id in joining]
        if len(voters) == self._voters_min and len(joining) == 1 and not self._lost and self._rng.random() < 0.3:
            self._propose(*promote)
            return
        leaving = [self._lost] if self._lost in voters else self._rng.sample(voters, min(len(joining), len(voters)))
        kinds = [ConfChangeType.REMOVE] if self._lost else [ConfChangeType.REMOVE, ConfChangeType.ADD_LEARNER]
        leave = [ConfChangeSingle(self._rng.choice(kinds), replica_id) for replica_id in leaving]
        self._propose(*promote, *leave, explicit=self._rng.random() < 0.5)

    def _remove(self) -> None:
        state = self._state()
        if self._lost and self._lost in state.learners:
            self._propose(ConfChangeSingle(ConfChangeType.REMOVE, self._lost))
        elif len(state.voters) > self._voters_min:
            leaving = self._lost if self._lost in state.voters else self._rng.choice(state.voters)
            self._propose(ConfChangeSingle(ConfChangeType.REMOVE, leaving))
        elif state.learners:
            self._propose(ConfChangeSingle(ConfChangeType.REMOVE, self._rng.choice(state.learners)))

    def _leave_joint(self) -> None:
        state = self._state()
        if state.voters_outgoing and not state.auto_leave:
            self._propose()

    def _transfer(self) -> None:
        found = self.leader()
        if found is not None and self._state().voters:
            self._world.happened["leader: asked to hand over"] += 1
            found[0].transfer_leader(GROUP, self._rng.choice(self._state().voters))

    def _destroy_removed(self) -> None:
        """Destroy the replicas that nobody counts any more."""
        state = self._agreed()
        if state is None or state.voters_outgoing:
            return
        if self._lost not in (*state.voters, *state.learners):
            self._lost = 0
        for server in self._servers.values():
            gone = server.replica_id and server.replica_id not in (*state.voters, *state.learners)
            if gone and server.node is not None and not server.paused and GROUP in server.node.group_ids:
                server.destroy()

    def _may_lose(self, server: SimulatedServer) -> bool:
        state = self._agreed()
        return not self._lost and state is not None and not state.voters_outgoing and server.replica_id != 0

    def _lose(self, server: SimulatedServer) -> None:
        self._lost = server.replica_id
        server.lose_disk()

    def _lose_disk(self) -> None:
        server = self._rng.choice(list(self._servers.values()))
        if self._may_lose(server):
            self._lose(server)

    def _flip_bit(self) -> None:
        """Damage a log while nobody has it open; one that can't be read then is a disk that is lost."""
        server = self._rng.choice(list(self._servers.values()))
        if not self._may_lose(server):
            return
        server.crash(power_off=False)
        self._world.tell(f"{server.name}: a bit of its log flips")
        self._world.happened["disk: bit flipped"] += 1
        flip_some_bit(server.disk, self._rng)
        server.start()
        if not server.is_up:
            self._world.happened["disk: damage found"] += 1
            self._lose(server)

    # ---- repair ---------------------------------------------------------------------------------------------

    def repair(self) -> None:
        """Restart what is down and put the group in order, again and again from now on."""
        for server in self._servers.values():
            if not server.is_up:
                server.start()
        if self.leader() is not None:
            self._repair_group()
        self._world.clock.callLater(REPAIR_SECONDS, self.repair)

    def _repair_group(self) -> None:
        state = self._state()
        if state.voters_outgoing:
            self._leave_joint()
            return
        self._destroy_removed()
        ghosts = [learner for learner in state.learners if self.server_of(learner) is None]
        if ghosts:
            self._propose(ConfChangeSingle(ConfChangeType.REMOVE, ghosts[0]))
        elif self._lost in state.voters:
            if state.learners:
                self._promote()
            else:
                self._add_learner()
