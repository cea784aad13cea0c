"""DELETE /rm: what is accepted, what is refused before anything is looked up, and what a success says."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode.wire import RemoveRequest, parse_remove, servers_removed


def parse(request: Any) -> RemoveRequest:
    """Parse a request given as an object."""
    return parse_remove({}, msgspec.json.encode(request))


class Accepted(SynchronousTestCase):
    def test_names_and_number(self) -> None:
        """The number may be left out, or exceed the names; fields go by other names and cases as well."""
        for given, count, names in (
            ({"n": 3, "servers": ["a"]}, 3, ("a",)),
            ({"N": 2}, 2, ()),
            ({"Hostnames": ["b", "a"]}, 2, ("b", "a")),
            ({"n": 1, "servers": None}, 1, ()),
        ):
            self.assertEqual(parse(given), RemoveRequest(count, names, rebalance=True))

    def test_without_rebalancing(self) -> None:
        """False leaves shards with fewer copies."""
        self.assertFalse(parse({"n": 1, "rebalance": False}).rebalance)


class Refused(SynchronousTestCase):
    def test_more_names_than_asked_for(self) -> None:
        """It is refused in the words of the contract."""
        error: ApiError = self.assertRaises(ApiError, parse, {"n": 1, "servers": ["a", "b"]})

        self.assertEqual((error.status, error.text), (400, "Length of server list is more than removable instances"))

    def test_what_is_no_request(self) -> None:
        """Whatever has the wrong shape is named."""
        for given, code in (
            ({}, "missing_field"),
            ({"servers": []}, "missing_field"),
            ({"n": 0}, "bad_count"),
            ({"n": "2"}, "bad_count"),
            ({"n": True}, "bad_count"),
            ({"servers": "a"}, "bad_servers"),
            ({"servers": [1]}, "bad_servers"),
            ({"servers": ["a", "a"]}, "duplicate_server"),
            ({"n": 1, "rebalance": "no"}, "bad_flag"),
        ):
            error: ApiError = self.assertRaises(ApiError, parse, given)
            self.assertEqual((error.status, error.code), (400, code), error.text)


class Texts(SynchronousTestCase):
    def test_success(self) -> None:
        """The servers that are left are counted, those that went are named."""
        answer = msgspec.json.decode(servers_removed(3, ["Server1", "Server4"]))

        self.assertEqual(answer, {"message": {"N": 3, "servers": ["Server1", "Server4"]}, "status": "successful"})
