"""POST /init: what is accepted, and what is refused before anything is touched."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from lbnode.wire import InitLimits, InitRequest, InitShard, check_name, parse_init

SCHEMA = {"columns": ["Stud_id", "Stud_name", "Stud_marks"], "dtypes": ["Number", "String", "String"]}
SHARDS = [
    {"Stud_id_low": 0, "Shard_id": "sh1", "Shard_size": 4096},
    {"Stud_id_low": 4096, "Shard_id": "sh2", "Shard_size": 4096},
]


def body(**fields: Any) -> dict[str, Any]:
    """Return a valid request, changed by `fields`; None leaves a field out."""
    whole = {"N": 3, "schema": SCHEMA, "shards": SHARDS, **fields}
    return {name: value for name, value in whole.items() if value is not None}


def parse(request: Any, limits: InitLimits | None = None) -> InitRequest:
    """Parse a request given as an object, or as the bytes of one."""
    raw = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return parse_init({}, raw, limits or InitLimits())


def shard(name: Any = "sh1", low: Any = 0, size: Any = 10) -> dict[str, Any]:
    """Return one shard as a client writes it."""
    return {"Stud_id_low": low, "Shard_id": name, "Shard_size": size}


class Accepted(SynchronousTestCase):
    def test_without_servers_the_balancer_names_and_fills_them(self) -> None:
        """N alone gives Server0 to Server<N-1>, all of them open, and three replicas."""
        request = parse(body(N=5))

        self.assertEqual(request.servers, {f"Server{n}": () for n in range(5)})
        self.assertEqual(request.replicas, 3)
        self.assertFalse(request.replace)
        self.assertEqual(request.schema.columns, ("Stud_id", "Stud_name", "Stud_marks"))

    def test_fewer_servers_than_the_default_give_fewer_replicas(self) -> None:
        """Two servers can hold two copies."""
        self.assertEqual(parse(body(N=2)).replicas, 2)

    def test_named_servers_win_over_another_n(self) -> None:
        """N that differs from the number of servers named is no error; the names win."""
        request = parse(body(N=9, servers={"a": ["sh1", "sh2"], "b": ["sh2"]}))

        self.assertEqual(request.servers, {"a": ("sh1", "sh2"), "b": ("sh2",)})

    def test_servers_without_n(self) -> None:
        """Named servers need no N."""
        self.assertEqual(parse(body(N=None, servers={"a": []})).servers, {"a": ()})

    def test_open_server_takes_what_nobody_names(self) -> None:
        """A shard that no server names is fine while one server is left to the balancer."""
        request = parse(body(servers={"a": ["sh1"], "b": []}))

        self.assertEqual(request.servers["b"], ())

    def test_fields_in_any_case_and_by_their_other_names(self) -> None:
        """The contract's fields may be written in any case, and `hostnames` for `servers`."""
        request = parse(
            {
                "n": 1,
                "SCHEMA": {"Columns": ["Stud_id"], "DTYPES": ["Number"]},
                "Shards": [{"stud_ID_low": 0, "shard_id": "sh1", "SHARD_SIZE": 5}],
                "HostNames": {"a": ["sh1"]},
                "Replace": True,
            }
        )

        self.assertEqual(request.shards, (InitShard(0, "sh1", 5),))
        self.assertEqual(request.servers, {"a": ("sh1",)})
        self.assertTrue(request.replace)

    def test_low_may_carry_the_key_columns_name(self) -> None:
        """With another key column both `<key>_low` and `Stud_id_low` are understood, and a decimal string as an id."""
        schema = {"columns": ["id", "x"], "dtypes": ["BigInt", "String"]}
        shards = [
            {"id_low": "100", "Shard_id": "b", "Shard_size": 10},
            {"Stud_id_low": 0, "Shard_id": "a", "Shard_size": 100},
        ]

        request = parse(body(schema=schema, shards=shards))

        self.assertEqual(request.shards, (InitShard(0, "a", 100), InitShard(100, "b", 10)))

    def test_last_id_of_64_bits_belongs_to_a_shard(self) -> None:
        """A shard may end at the greatest id there is, and begin at the smallest."""
        high, low = (1 << 63) - 10, -(1 << 63)

        request = parse(body(shards=[shard("low", low), shard("high", high)]))

        self.assertEqual([(one.low, one.high) for one in request.shards], [(low, low + 9), (high, (1 << 63) - 1)])

    def test_replicas_up_to_the_number_of_servers(self) -> None:
        """`replicas` may be as great as N."""
        self.assertEqual(parse(body(N=7, replicas=7)).replicas, 7)


class Refused(SynchronousTestCase):
    def refuse(self, code: str, request: Any, mentioning: str = "", limits: InitLimits | None = None) -> None:
        """Check that a request is a 400 of this code whose text names the culprit."""
        error = self.assertRaises(ApiError, parse, request, limits)

        self.assertEqual((error.status, error.code), (400, code), error.text)
        self.assertIn(mentioning, error.text)

    def test_missing_parts(self) -> None:
        """A schema, shards, and N or servers must be there."""
        self.refuse("missing_field", body(schema=None), "schema")
        self.refuse("missing_field", body(shards=None), "shards")
        self.refuse("missing_field", body(N=None), "'N'")
        self.refuse("missing_field", body(shards=[{"Shard_id": "sh1", "Shard_size": 1}]), "Stud_id_low")
        self.refuse("missing_field", body(shards=[{"Stud_id_low": 0, "Shard_size": 1}]), "Shard_id")
        self.refuse("missing_field", body(shards=[{"Stud_id_low": 0, "Shard_id": "sh1"}]), "Shard_size")

    def test_wrong_types(self) -> None:
        """Every field of a wrong type is named."""
        self.refuse("bad_json", [])
        self.refuse("bad_schema", body(schema=[]))
        self.refuse("bad_schema", body(schema={"columns": ["a"], "dtypes": ["String"]}), "Number")
        self.refuse("bad_shard", body(shards={}))
        self.refuse("bad_shard", body(shards=[]))
        self.refuse("bad_shard", body(shards=["sh1"]), "sh1")
        self.refuse("bad_key", body(shards=[shard(low=1.5)]), "1.5")
        self.refuse("bad_key", body(shards=[shard(low=None)]))
        self.refuse("bad_servers", body(servers=["a"]))
        self.refuse("bad_servers", body(servers={"a": "sh1"}), "'a'")
        self.refuse("bad_servers", body(servers={"a": [1]}))
        self.refuse("bad_flag", body(replace="yes"), "yes")
        for wrong in (0, -1, True, "3", 1.0):
            self.refuse("bad_count", body(N=wrong), "N is")
            self.refuse("bad_count", body(replicas=wrong), "replicas")
            self.refuse("bad_count", body(shards=[shard(size=wrong)]), "Shard_size")

    def test_overlapping_shards(self) -> None:
        """Two shards cannot have an id in common, whatever their order in the request."""
        self.refuse("overlap", body(shards=[shard("b", 5), shard("a", 0)]), "'a' (0 to 9) and 'b' (5 to 14)")
        self.refuse("overlap", body(shards=[shard("a", 0), shard("b", 9)]))
        self.refuse("overlap", body(shards=[shard("a", 0), shard("b", 0)]))

    def test_duplicate_names(self) -> None:
        """A shard cannot be defined twice, a server not be named twice, not even as equal keys in the JSON."""
        self.refuse("duplicate_shard", body(shards=[shard("a", 0), shard("a", 10)]), "'a'")
        self.refuse("duplicate_shard", body(servers={"x": ["sh1", "sh1", "sh2"]}), "'x'")
        twice = msgspec.json.encode(body()).replace(b'"N":3', b'"servers":{"x":["sh1"],"x":["sh2"]}')
        self.refuse("duplicate_key", twice, "'x'")

    def test_placement(self) -> None:
        """Servers name only shards that are defined, and every shard has a place."""
        self.refuse("unknown_shard", body(servers={"a": ["sh1", "sh2", "sh3"]}), "sh3")
        self.refuse("unplaced_shard", body(servers={"a": ["sh1"]}), "sh2")

    def test_names(self) -> None:
        """A name must be printable, of moderate length, and possible as part of a path; `status` is taken."""
        for wrong in ("", " ", "a/b", ".", "..", "a\nb", "x" * 129, "é" * 65):
            self.refuse("bad_name", body(shards=[shard(wrong)]))
            self.refuse("bad_name", body(shards=[shard("sh1")], servers={wrong: ["sh1"]}))
        for taken in ("status", "Status", "STATUS"):
            self.refuse("bad_name", body(shards=[shard(taken)]), taken)
        self.refuse("bad_name", body(shards=[shard(7)]))

    def test_ids_beyond_64_bits(self) -> None:
        """A shard cannot begin or end where no id can be."""
        self.refuse("bad_key", body(shards=[shard(low=1 << 63)]), str(1 << 63))
        self.refuse("bad_shard", body(shards=[shard(low=(1 << 63) - 9)]), str(1 << 63))

    def test_too_much(self) -> None:
        """More copies than servers, and more servers or shards than the limits allow, are refused."""
        self.refuse("too_many_replicas", body(N=2, replicas=3), "2")
        self.refuse("too_many_servers", body(N=4), "at most 3", InitLimits(servers_max=3))
        self.refuse("too_many_servers", body(N=10**18))
        self.refuse("too_many_shards", body(), "at most 1", InitLimits(shards_max=1))


class Names(SynchronousTestCase):
    def test_names_of_any_script(self) -> None:
        """Letters, digits, signs and spaces within are fine."""
        for name in ("Server0", "сервер", "Server[5]", "a b", "db.example-1_2", "x" * 128):
            self.assertEqual(check_name(name, "server"), name)
