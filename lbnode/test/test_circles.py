"""Which shards share their tours."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lbnode.circles import SERVERS_MAX, circles
from lbnode.layout import ShardLayout


def shard(group_id: int, *servers: int) -> ShardLayout:
    """Return a shard with replicas on these servers."""
    replicas = {100 * group_id + place: f"Server{server}" for place, server in enumerate(servers)}
    return ShardLayout(group_id, f"sh{group_id}", 10 * group_id, 10, replicas)


def spread(shards: int, servers: int, replicas: int) -> list[ShardLayout]:
    """Return shards whose replicas are on servers next to each other, each beginning at another one."""
    return [
        shard(number, *((number * replicas + place) % servers for place in range(replicas)))
        for number in range(1, shards + 1)
    ]


class CirclesTests(SynchronousTestCase):
    def of(self, shards: list[ShardLayout]) -> list[list[int]]:
        """Return the circles as numbers of groups."""
        return [[one.group_id for one in circle] for circle in circles(shards)]

    def test_many_replicas_on_few_servers(self) -> None:
        """With seven or eight replicas, or many shards on few servers, all shards share their tours."""
        for layout in (spread(4, 7, 7), spread(6, 10, 8), spread(16, 6, 3), spread(4, 3, 3)):
            self.assertEqual([sorted(circle) for circle in self.of(layout)], [[one.group_id for one in layout]])

    def test_few_replicas(self) -> None:
        """Four shards of three replicas on six servers have nothing to gain; nor has a shard by itself."""
        self.assertEqual(self.of(spread(4, 6, 3)), [])
        self.assertEqual(self.of(spread(1, 8, 8)), [])
        self.assertEqual(self.of([]), [])

    def test_one_replica(self) -> None:
        """Where nobody has to be asked no tour helps."""
        self.assertEqual(self.of(spread(8, 2, 1)), [])

    def test_shards_apart(self) -> None:
        """Shards that have no servers in common, and together too many, make circles of their own."""
        here = [shard(number, *range(7)) for number in (1, 3, 5, 7)]
        there = [shard(number, *range(20, 27)) for number in (2, 4, 6, 8)]

        self.assertEqual(self.of([*there, *here]), [[1, 3, 5, 7], [2, 4, 6, 8]])

    def test_too_many_servers(self) -> None:
        """No tour visits more servers than it may, even for one shard."""
        many = [shard(number, *range(SERVERS_MAX + 1)) for number in range(1, 9)]
        self.assertEqual(self.of(many), [])

        found = circles(spread(60, 30, 5))
        self.assertEqual(len(found), 3)
        for circle in found:
            servers = {server for one in circle for server in one.replicas.values()}
            self.assertLessEqual(len(servers), SERVERS_MAX)
