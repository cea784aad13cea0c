"""POST /add and DELETE /rm."""

from __future__ import annotations

from typing import Any

from lbnode.test.conformance import CONFIG, ConformanceCase, row

NEW_SHARD = {"Stud_id_low": 20000, "Shard_id": "sh5", "Shard_size": 100}


class _Resizing(ConformanceCase):
    def servers(self) -> dict[str, list[str]]:
        """Return the shards of each server."""
        found: dict[str, list[str]] = self.succeed("GET", "/status")["servers"]
        return found

    def copies(self) -> dict[str, set[str]]:
        """Return the servers of each shard."""
        status = self.succeed("GET", "/status")
        return {shard["Shard_id"]: {replica["server"] for replica in shard["replicas"]} for shard in status["shards"]}


class Add(_Resizing):
    def test_named_servers_and_a_new_shard(self) -> None:
        """Rows stay where they are, the new shard takes rows, and the servers hold what was named for them."""
        self.stored(row(7))

        reply = self.call(
            "POST",
            "/add",
            {"n": 2, "new_shards": [NEW_SHARD], "servers": {"Server4": ["sh5", "sh1"], "Server5": ["sh5"]}},
        )

        self.assertEqual(
            (reply.status, reply.body),
            (200, b'{"N":5,"message":"Add Server:4 and Server:5","status":"successful"}'),
        )
        servers = self.servers()
        self.assertEqual((set(servers["Server4"]), set(servers["Server5"])), ({"sh1", "sh5"}, {"sh5"}))
        self.stored(row(20099))
        self.assertEqual(self.rows(), [row(7), row(20099)])
        self.assertEqual(self.succeed("GET", "/read/Server4")["sh1"], [row(7)])
        self.assertEqual(self.succeed("GET", "/rep")["message"]["N"], 5)

    def test_templates(self) -> None:
        """The balancer puts a random number in the place of brackets and of a dollar sign."""
        answer = self.succeed(
            "POST", "/add", {"N": 3, "hostnames": {"Server[5]": ["sh1"], "Server$": [], "x": ["sh2"]}}
        )

        new = self.servers().keys() - {"Server0", "Server1", "Server2", "x"}
        numbers = {name.removeprefix("Server") for name in new}
        self.assertEqual(len(numbers), 2)
        self.assertTrue(all(number.isdecimal() for number in numbers), new)
        self.assertEqual(answer["N"], 6)
        self.assertRegex(answer["message"], r"^Add Server:\d+, Server:\d+ and x$")

    def test_an_open_server_is_filled(self) -> None:
        """It takes its share; no shard has fewer copies than before, and none twice on a server."""
        self.stored(*(row(key) for key in (0, 5000, 9000)))

        answer = self.succeed("POST", "/add", {"n": 1, "servers": {"Server9": []}})

        self.assertEqual(answer["message"], "Add Server:9")
        held = [len(shards) for shards in self.servers().values()]
        self.assertEqual((len(held), sum(held), max(held) - min(held)), (4, 12, 0))
        self.assertEqual({len(servers) for servers in self.copies().values()}, {3})
        self.assertEqual([one["Stud_id"] for one in self.rows()], [0, 5000, 9000])

    def test_more_copies(self) -> None:
        """With replicas every shard has so many copies, over old servers and new ones."""
        self.succeed("POST", "/add", {"n": 1, "servers": {"Server9": ["sh1"]}, "replicas": 4})

        self.assertEqual({len(servers) for servers in self.copies().values()}, {4})

    def test_refused_as_a_whole(self) -> None:
        """What cannot be is refused by name, and changes nothing."""
        before = self.copies()
        overlapping = {**NEW_SHARD, "Stud_id_low": 8192 + 4095}
        requests: tuple[tuple[dict[str, Any], str, str], ...] = (
            ({"n": 1, "servers": {"Server0": ["sh1"]}}, "server_exists", "'Server0'"),
            ({"n": 1, "servers": {"a": ["sh9"]}}, "unknown_shard", "'sh9'"),
            ({"servers": {"a": ["sh1"]}, "new_shards": [{**NEW_SHARD, "Shard_id": "sh1"}]}, "shard_exists", "'sh1'"),
            ({"servers": {"a": ["sh5"]}, "new_shards": [overlapping]}, "overlap", "'sh3'"),
            ({"servers": {"a": ["sh1"]}, "new_shards": [NEW_SHARD]}, "unplaced_shard", "'sh5'"),
            ({"servers": {"a": []}, "replicas": 5}, "too_many_replicas", "5"),
            ({"servers": {"a/b": []}}, "bad_name", "a/b"),
            ({"n": 0, "servers": {"a": []}}, "bad_count", "n"),
            ({}, "missing_field", "servers"),
        )
        for request, code, mentioned in requests:
            self.refuse(400, code, "POST", "/add", request, mentioned)
        error = self.refuse(400, "bad_count", "POST", "/add", {"n": 2, "servers": {"a": ["sh1"]}})

        self.assertEqual(error["message"], "<Error> Number of new servers (n) is greater than newly added instances")
        self.assertEqual(self.copies(), before)


class Remove(_Resizing):
    def setUp(self) -> None:
        """Begin with a server more than shards have copies."""
        super().setUp()
        self.succeed("POST", "/add", {"n": 1, "servers": {"Server3": []}})

    def test_named(self) -> None:
        """What the server held is held by others, and every row is still there."""
        self.stored(*(row(key) for key in (0, 5000, 9000)))

        reply = self.call("DELETE", "/rm", {"n": 1, "servers": ["Server1"]})

        self.assertEqual(
            (reply.status, reply.body),
            (200, b'{"message":{"N":3,"servers":["Server1"]},"status":"successful"}'),
        )
        self.assertEqual(self.servers().keys(), {"Server0", "Server2", "Server3"})
        self.assertEqual({len(servers) for servers in self.copies().values()}, {3})
        self.assertEqual([one["Stud_id"] for one in self.rows()], [0, 5000, 9000])
        self.stored(row(1))
        self.check_refused(self.call("GET", "/read/Server1"), 404, "unknown_server")

    def test_the_rest_at_random(self) -> None:
        """With fewer names than n the balancer chooses who else goes; POST is as good as DELETE."""
        answer = self.succeed("POST", "/rm", {"N": 2, "Hostnames": ["Server2"]})

        first, second = answer["message"]["servers"]
        self.assertEqual((answer["message"]["N"], first), (2, "Server2"))
        self.assertEqual(self.servers().keys(), {"Server0", "Server1", "Server2", "Server3"} - {first, second})
        self.assertEqual({len(servers) for servers in self.copies().values()}, {2})

    def test_without_rebalancing(self) -> None:
        """Copies are given up if the request says so."""
        held = set(self.servers()["Server3"])

        self.succeed("DELETE", "/rm", {"n": 1, "servers": ["Server3"], "rebalance": False})

        self.assertEqual(
            {shard: len(servers) for shard, servers in self.copies().items()},
            {shard: 2 if shard in held else 3 for shard in self.copies()},
        )

    def test_last_copies_move(self) -> None:
        """What only one server holds is not lost with it."""
        self.succeed("POST", "/add", {"n": 1, "new_shards": [NEW_SHARD], "servers": {"Server4": ["sh5"]}})
        self.stored(row(20000))

        self.succeed("DELETE", "/rm", {"n": 1, "servers": ["Server4"], "rebalance": False})

        self.assertEqual(self.rows(20000, 20099), [row(20000)])
        self.assertEqual(len(self.copies()["sh5"]), 1)

    def test_refused(self) -> None:
        """What cannot be is refused, and changes nothing."""
        before = self.copies()
        for request, code, mentioned in (
            ({"n": 1, "servers": ["Server9"]}, "unknown_server", "'Server9'"),
            ({"n": 0}, "bad_count", "n"),
            ({"n": 5}, "bad_count", "4"),
            ({"n": 4}, "last_servers", "name them all"),
            ({}, "missing_field", "n"),
            ({"n": 2, "servers": ["Server0", "Server0"]}, "duplicate_server", "twice"),
        ):
            self.refuse(400, code, "DELETE", "/rm", request, mentioned)
        error = self.refuse(400, "bad_count", "DELETE", "/rm", {"n": 1, "servers": ["Server0", "Server1"]})

        self.assertEqual(error["message"], "<Error> Length of server list is more than removable instances")
        self.assertEqual(self.copies(), before)

    def test_all_of_them(self) -> None:
        """Naming every server takes the table down; the balancer is as before its first /init."""
        names = sorted(self.servers())

        answer = self.succeed("DELETE", "/rm", {"n": 4, "servers": names})

        self.assertEqual(answer["message"], {"N": 0, "servers": names})
        status = self.succeed("GET", "/status")
        self.assertEqual((status["N"], status["shards"], status["servers"]), (0, [], {}))
        self.refuse(409, "not_initialised", "POST", "/write", {"data": [row(1)]}, "/init")
        self.succeed("POST", "/init", CONFIG)
        self.assertEqual(self.rows(), [])
