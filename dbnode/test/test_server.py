"""Three servers as one group, over memory: what a client sees when they are configured, killed and restarted."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dbnode.client import ReadChannel, Requests, ShardSession, Unavailable
from dbnode.test.server_rig import CLUSTER, NAMES, Server, ServerRig, group_of_all, managed, row, three_servers
from dbnode.wire import (
    LINEARIZABLE,
    STALE,
    TOO_LARGE,
    Duplicate,
    Propose,
    Read,
    Result,
    Status,
    Statuses,
    Stored,
    WhoLeads,
    Write,
    decode_items,
    encode_items,
)
from raftlog.link import Endpoint, Identity
from raftlog.link.memory import MemoryLinks
from raftlog.messages import HardState
from raftlog.options import Limits

LONG = Write(((1, "x" * 100_000, 1),))


class Replies:
    """Where a test finds the replies to what it gives to a server."""

    def __init__(self, found: list[Any]) -> None:
        self._found = found

    def send(self, item: Any) -> bool:
        """Keep a reply."""
        self._found.append(item)
        return True


class Balancer:
    """The client of a cluster, as a balancer would be."""

    def __init__(self, rig: ServerRig) -> None:
        self.rig = rig
        identity = Identity(CLUSTER, "balancer", "balancer", "b")
        links = MemoryLinks(
            rig.network,
            identity,
            lambda _, items: self.requests.received(items),
            encode=encode_items,
            decode=decode_items,
        )
        self.requests = Requests(rig.clock, links)
        links.watch(lambda name, lane: None, self.requests.dropped)
        for name in NAMES:
            links.set_peer(name, Endpoint("memory", 1))
        links.startService()
        rig.run(0.1)
        self.session = ShardSession(
            rig.clock, self.requests, Random(1), group_id=1, client_name="balancer-1", servers=NAMES
        )
        self.reads = ReadChannel(rig.clock, self.requests, Random(2))

    def write(self, *ids: int) -> Result:
        """Store rows with these ids and wait for the result."""

        async def wait() -> Result:
            return await self.session.submit(Write(tuple((id_, "x", 1) for id_ in ids)), 10)

        return self.rig.wait(wait())  # type: ignore[no-any-return]

    def read(self, server: str, consistency: int = LINEARIZABLE, timeout_seconds: float = 5) -> bytes:
        """Return all rows as one server answers."""

        async def wait() -> bytes:
            page = await self.reads.read(
                1, [server], 0, 10_000, timeout_seconds=timeout_seconds, consistency=consistency
            )
            return page.data

        return self.rig.wait(wait())  # type: ignore[no-any-return]

    def statuses(self, server: str) -> Statuses:
        """Return what a server says of its replicas."""

        async def wait() -> Any:
            return await self.requests.ask(server, Status, 1)

        return self.rig.wait(wait())  # type: ignore[no-any-return]

    def who_leads(self, server: str, group_id: int) -> tuple[str, int]:
        """Return whom a server says to lead a group, and in which term."""

        async def wait() -> Any:
            return await self.requests.ask(server, lambda request_id: WhoLeads(request_id, group_id), 1)

        reply = self.rig.wait(wait())
        return reply.server, reply.term


class ClusterTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start three servers with one group, and a client."""
        self.rig = three_servers()
        self.balancer = Balancer(self.rig)

    def tearDown(self) -> None:
        """Check that no server had to give up."""
        for server in self.rig.servers.values():
            self.assertEqual(server.failures, [])

    def others(self, server: Server) -> list[str]:
        """Return the names of the other servers."""
        return [name for name, other in self.rig.servers.items() if other is not server]

    def test_writes_reach_every_replica_and_every_replica_reads_them(self) -> None:
        """A read on any replica sees what was acknowledged before it began."""
        self.assertEqual(self.balancer.write(1, 2), Stored(2))
        read = {self.balancer.read(name).count(b"Stud_id") for name in NAMES}

        self.assertEqual(read, {2})
        self.rig.run(0.5)
        self.assertEqual([server.rows() for server in self.rig.servers.values()], [[(1, "x", 1), (2, "x", 1)]] * 3)

    def test_duplicate_is_refused_by_the_shard(self) -> None:
        """The outcome of a change is part of applying it."""
        self.balancer.write(1)

        self.assertEqual(self.balancer.write(2, 1), Duplicate((1,)))

    def test_killed_leader_loses_nothing(self) -> None:
        """After the leader's death a majority goes on, with everything that was acknowledged."""
        self.balancer.write(1)
        leader = self.rig.leader()

        leader.kill()
        del self.rig.servers[leader.disk.identity.name]
        self.assertEqual(self.balancer.write(2), Stored(1))

        for name in self.rig.servers:
            self.assertEqual(self.balancer.read(name).count(b"Stud_id"), 2)

    def test_restarted_server_catches_up_before_it_reads(self) -> None:
        """A server that comes back, from its own disk alone, answers only with what it has missed."""
        self.balancer.write(1)
        dead = self.rig.servers[self.others(self.rig.leader())[0]]
        name = dead.disk.identity.name
        dead.kill()
        del self.rig.servers[name]
        self.balancer.write(2)

        self.rig.start(name, disk=dead.disk)
        stale = self.balancer.read(name, STALE)
        self.rig.run(0.5)

        self.assertEqual(stale.count(b"Stud_id"), 2)
        self.assertEqual(self.rig.servers[name].rows(), [(1, "x", 1), (2, "x", 1)])

    def test_all_killed_at_once_lose_nothing(self) -> None:
        """Everything that was acknowledged is there when the processes come back."""
        self.balancer.write(1, 2, 3)

        for server in self.rig.servers.values():
            server.kill()
        for name in NAMES:
            self.rig.restart(name)

        self.assertEqual(self.balancer.read("Server1").count(b"Stud_id"), 3)
        self.assertEqual(self.balancer.write(4), Stored(1))

    def test_follower_says_who_leads(self) -> None:
        """The status of each replica names role, leader's server, indexes and rows."""
        self.balancer.write(1)
        self.rig.run(0.5)
        leader = self.rig.leader().disk.identity.name

        for name in NAMES:
            (status,) = self.balancer.statuses(name).replicas
            self.assertEqual((status.leader_server, status.row_count), (leader, 1))
            self.assertEqual(status.role, "leader" if name == leader else "follower")
            self.assertEqual(status.applied_index, status.commit_index)

    def test_client_without_a_way_to_the_leader(self) -> None:
        """A follower passes on what a client cannot bring to the leader, and says what the leader said."""
        self.balancer.write(1)
        leader = self.rig.leader()
        self.rig.network.cut("balancer", leader.disk.identity.name)

        self.assertEqual(self.balancer.write(2), Stored(1))
        self.assertEqual(self.balancer.write(3, 2), Duplicate((2,)))
        self.assertIs(self.rig.leader(), leader)

    def test_everybody_says_who_leads(self) -> None:
        """Leader and followers name the same server and term; of other groups nobody knows anything."""
        self.balancer.write(1)
        self.rig.run(0.5)

        said = {self.balancer.who_leads(name, 1) for name in NAMES}
        unknown = self.balancer.who_leads("Server0", 99)

        self.assertEqual({server for server, _ in said}, {self.rig.leader().disk.identity.name})
        self.assertEqual((len(said), unknown), (1, ("", 0)))

    def test_entry_that_could_never_be_sent(self) -> None:
        """A command too large for the log is refused for good, and the shard goes on."""
        command = b"x" * (Limits().entry_bytes_max + 1)
        replies: list[Any] = []

        leader = self.rig.leader().database
        self.assertEqual(leader.serving.receive(Replies(replies), [Propose(9, 1, command, 1000)]), [])

        self.assertEqual([(reply.code, reply.maybe_applied) for reply in replies], [(TOO_LARGE, False)])
        self.assertEqual(self.balancer.write(1), Stored(1))

    def test_many_long_reads_take_many_turns(self) -> None:
        """Long reads that come together are answered a few per turn of the reactor, and all of them."""
        written = self.balancer.session.submit(LONG, 10)
        self.rig.until(lambda: written.called)
        self.balancer.read("Server0")
        replies: list[Any] = []
        reads = [Read(number, 1, 0, 4095, 0, 0, STALE, 1000) for number in range(10)]

        self.rig.servers["Server0"].database.serving.receive(Replies(replies), reads)
        at_once = len(replies)
        self.rig.run(0.1)

        self.assertLess(at_once, 4)
        self.assertEqual([reply.request_id for reply in replies], list(range(10)))

    def test_stale_read_of_a_minority_that_was_never_read_before(self) -> None:
        """A replica finds out by itself that it has caught up: nobody need have read there while it could be asked."""
        name = self.others(self.rig.leader())[0]
        self.balancer.write(1)
        self.rig.run(1)
        for other in set(NAMES) - {name}:
            self.rig.network.cut(name, other)
        self.rig.run(2)

        self.assertEqual(self.balancer.read(name, STALE).count(b"Stud_id"), 1)

    def test_stale_read_sees_what_is_known_to_be_committed(self) -> None:
        """A follower gathers what it applies, but not when somebody reads."""
        name = self.others(self.rig.leader())[0]
        self.balancer.write(1)
        self.balancer.read(name)
        self.balancer.write(2)
        self.balancer.write(3)
        replies: list[Any] = []
        read = Read(1, 1, 0, 4095, 0, 0, STALE, 1000)

        gathered = self.rig.servers[name].rows()
        self.rig.servers[name].database.serving.receive(Replies(replies), [read])

        self.assertEqual(gathered, [(1, "x", 1)])
        self.assertEqual(replies[0].data.count(b"Stud_id"), 2)

    def test_minority_refuses_reads_and_a_stale_one_is_answered(self) -> None:
        """Cut off from the others a replica proves nothing; what it has is given to who asks for no more."""
        self.balancer.write(1)
        self.balancer.read("Server0")
        for other in ("Server1", "Server2"):
            self.rig.network.cut("Server0", other)
        self.rig.run(2)

        failure = self.assertRaises(Unavailable, self.balancer.read, "Server0", timeout_seconds=1)

        self.assertIn("quorum", failure.text)
        self.assertEqual(self.balancer.read("Server0", STALE).count(b"Stud_id"), 1)

    def test_http_write_at_a_follower_reaches_the_leader(self) -> None:
        """Every server that holds the shard takes changes and reads for it."""
        for place, server in enumerate(self.rig.servers.values()):
            reply = server.ask("POST", "/write", {"shard": "sh1", "data": [row(place)], "curr_idx": 5})
            self.assertEqual((reply.status, reply.json["current_idx"]), (200, 6), reply.body)

        read = self.rig.servers["Server2"].ask("POST", "/read", {"shard": "sh1", "Stud_id": {"low": 0, "high": 9}})

        self.assertEqual([one["Stud_id"] for one in read.json["data"]], [0, 1, 2])

    def test_stopping_leader_hands_over_first(self) -> None:
        """A server that is stopped, not killed, leaves its shards with a leader: no election timeout passes."""
        leader = self.rig.leader()
        before = self.rig.clock.seconds()

        self.rig.wait(leader.database.stop())
        del self.rig.servers[leader.disk.identity.name]

        self.assertLess(self.rig.clock.seconds() - before, 0.25)
        self.assertIn("leader", [server.role() for server in self.rig.servers.values()])

    def test_replica_that_lost_acknowledged_entries_is_taken_out(self) -> None:
        """A disk that went back in time has broken a promise: its replica serves no more, and says why when asked."""
        for id_ in range(5):
            self.balancer.write(id_)
        dead = self.rig.servers[self.others(self.rig.leader())[0]]
        name, disk = dead.disk.identity.name, dead.disk
        dead.kill()
        found = disk.recovered[1]
        disk.recovered[1] = replace(found, entries=found.entries[:2], hard_state=HardState(found.hard_state.term, 0, 2))
        disk.stores.clear()

        server = self.rig.start(name, disk=disk)
        self.rig.until(lambda: bool(server.database.host.quarantined))
        reply = server.configure(managed(name, [group_of_all()]))

        self.assertEqual((reply.status, reply.code), (409, "lost_replica"))
        self.assertEqual(self.balancer.statuses(name).replicas, ())
        self.assertEqual(server.ask("GET", "/copy", {"shards": ["sh1"]}).code, "unavailable")
        self.assertEqual(self.balancer.write(9), Stored(1))

    def test_removed_group_leaves_nothing(self) -> None:
        """A configuration that no longer lists a group destroys the replica, and its id is never taken again."""
        for name, server in self.rig.servers.items():
            self.assertEqual(server.configure(managed(name, [], version=2)).status, 200)
        server = self.rig.servers["Server0"]

        again = server.configure(managed("Server0", [group_of_all()], version=3))

        self.assertEqual((again.status, again.code), (409, "bad_config"))
        self.assertEqual(server.rows(), [])
        self.assertEqual(server.database.serving.statuses(), [])
        self.assertEqual(server.ask("GET", "/copy", {"shards": ["sh1"]}).code, "no_shard")
