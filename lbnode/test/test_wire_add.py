"""POST /add: what is accepted, what is refused before anything is looked up, and what a success says."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode.wire import AddRequest, InitLimits, InitShard, parse_add, servers_added, template_prefix


def parse(request: Any, limits: InitLimits | None = None) -> AddRequest:
    """Parse a request given as an object."""
    return parse_add({}, msgspec.json.encode(request), "Stud_id", limits or InitLimits())


class Accepted(SynchronousTestCase):
    def test_everything_there_may_be(self) -> None:
        """Servers in their order with the shards named for them, new shards by range, the copies wanted."""
        request = parse(
            {
                "n": 2,
                "new_shards": [
                    {"Stud_id_low": 30, "Shard_id": "sh6", "Shard_size": 5},
                    {"Stud_id_low": "20", "Shard_id": "sh5", "Shard_size": 10},
                ],
                "servers": {"Server4": ["sh5", "sh1"], "Server[5]": []},
                "replicas": 4,
            }
        )

        self.assertEqual(list(request.servers.items()), [("Server4", ("sh5", "sh1")), ("Server[5]", ())])
        self.assertEqual(request.shards, (InitShard(20, "sh5", 10), InitShard(30, "sh6", 5)))
        self.assertEqual(request.replicas, 4)

    def test_liberal_in_names_of_fields(self) -> None:
        """N for n, hostnames for servers, any case; N may be left out or smaller than the servers named."""
        requests: tuple[Any, ...] = (
            {"N": 1, "HostNames": {"a": []}},
            {"SERVERS": {"a": []}},
            {"n": None, "servers": {"a": []}},
        )
        for given in requests:
            self.assertEqual(parse(given), AddRequest({"a": ()}, (), None))
        self.assertEqual(len(parse({"n": 1, "servers": {"a": [], "b": []}}).servers), 2)

    def test_templates(self) -> None:
        """Brackets at the end, with a number or without, and a dollar sign ask for a random number."""
        given = ("Server[5]", "Server[]", "Server$", "$", "Server5", "a[b]", "x$y", "[1]x")

        self.assertEqual([template_prefix(name) for name in given], ["Server"] * 3 + [""] + [None] * 4)


class Refused(SynchronousTestCase):
    def assertRefused(self, request: Any, code: str, *mentioning: str, limits: InitLimits | None = None) -> None:
        """Check that a request is a 400 with a code, whose text mentions what is wrong."""
        error: ApiError = self.assertRaises(ApiError, parse, request, limits)
        self.assertEqual((error.status, error.code), (400, code), error.text)
        for text in mentioning:
            self.assertIn(text, error.text)

    def test_more_than_named(self) -> None:
        """N greater than the servers named is refused in the words of the contract."""
        text = "Number of new servers (n) is greater than newly added instances"
        requests: tuple[Any, ...] = ({"n": 2, "servers": {"a": []}}, {"n": 1}, {"n": 1, "servers": {}})
        for given in requests:
            error: ApiError = self.assertRaises(ApiError, parse, given)
            self.assertEqual((error.status, error.text), (400, text))

    def test_what_is_no_request(self) -> None:
        """Whatever has the wrong shape is named."""
        self.assertRefused({}, "missing_field", "servers")
        self.assertRefused({"n": 0, "servers": {"a": []}}, "bad_count", "n is 0")
        self.assertRefused({"servers": ["a"]}, "bad_servers", '["a"]')
        self.assertRefused({"servers": {"a": "sh1"}}, "bad_servers", '"sh1"')
        self.assertRefused({"servers": {"a": ["sh1", "sh1"]}}, "duplicate_shard", "'a'")
        self.assertRefused({"servers": {"a/[5]": []}}, "bad_name", "a/0")
        self.assertRefused({"servers": {"": []}}, "bad_name")
        self.assertRefused({"servers": {"a": []}, "replicas": 0}, "bad_count", "replicas")
        self.assertRefused({"servers": {"a": []}, "new_shards": {"x": 1}}, "bad_shard", "new_shards")
        twice = [{"Stud_id_low": low, "Shard_id": "x", "Shard_size": 1} for low in (1, 2)]
        self.assertRefused({"servers": {"a": []}, "new_shards": twice}, "duplicate_shard", "'x'")
        over = [{"Stud_id_low": 0, "Shard_id": name, "Shard_size": 1} for name in "xy"]
        self.assertRefused({"servers": {"a": []}, "new_shards": over}, "overlap", "'x'", "'y'")
        self.assertRefused(
            {"servers": {"a": [], "b": []}}, "too_many_servers", "at most 1", limits=InitLimits(servers_max=1)
        )

    def test_equal_names(self) -> None:
        """A server that is named twice is refused instead of being lost."""
        body = b'{"servers":{"a":[],"a":["sh1"]}}'

        error: ApiError = self.assertRaises(ApiError, parse_add, {}, body, "Stud_id", InitLimits())

        self.assertEqual(error.code, "duplicate_key")


class Texts(SynchronousTestCase):
    def test_one_two_and_more(self) -> None:
        """Names are joined as in a sentence; a numbered server is shown with a colon."""
        for names, text in (
            (["Server4"], "Add Server:4"),
            (["Server4", "Server58127"], "Add Server:4 and Server:58127"),
            (["Server4", "rack, 2", "ServerX"], "Add Server:4, rack, 2 and ServerX"),
        ):
            answer = msgspec.json.decode(servers_added(5, names))
            self.assertEqual(answer, {"N": 5, "message": text, "status": "successful"})
