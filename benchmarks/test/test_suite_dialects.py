"""Tests of benchmarks.suite.dialects, layouts and wrk."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.suite.dialects import ConstantDialect, EtcdDialect, TableDialect, bodies
from benchmarks.suite.layouts import large_a_1, spread
from benchmarks.suite.wrk import WrkError, blast_of
from benchmarks.workloads import A_1, Record

ADA = Record(7, "Ada", 99)
STORED = b'{"message":"1 Data entries added","status":"success"}'
#: "7" and the JSON of ADA in base64.
KEY, VALUE = "Nw==", "eyJTdHVkX2lkIjo3LCJTdHVkX25hbWUiOiJBZGEiLCJTdHVkX21hcmtzIjo5OX0="


class Ours(SynchronousTestCase):
    def test_requests(self) -> None:
        """Writes and reads are those of the contract; only a stale read says its consistency."""
        wanted = TableDialect("h:1")
        stale = TableDialect("h:1", "stale")

        found = [msgspec.json.decode(body) for body in bodies([wanted.write([ADA]), wanted.read(7), stale.read(7)])]

        self.assertEqual(found[0]["data"][0]["Stud_name"], "Ada")
        self.assertEqual(found[1], {"Stud_id": {"low": 7, "high": 7}})
        self.assertEqual(found[2], {"Stud_id": {"low": 7, "high": 7}, "consistency": "stale"})

    def test_judging(self) -> None:
        """A row must come back as it is, unless nobody knows whether it was stored."""
        answer = msgspec.json.encode({"data": [ADA], "status": "success"})
        empty = msgspec.json.encode({"data": [], "status": "success"})
        check = TableDialect("h:1").reads_of([ADA, Record(8, "Bob", 1)], unknown=[8])

        self.assertIsNone(check(0, 200, answer))
        self.assertIsNotNone(check(0, 200, empty))
        self.assertIsNone(check(1, 200, empty))
        self.assertIsNone(TableDialect("h:1").written(1)(0, 200, STORED))
        self.assertIsNone(ConstantDialect("h:1").reads_of([ADA], ())(0, 200, STORED))


class Gateway(SynchronousTestCase):
    def test_requests(self) -> None:
        """A row is one key and one value, both in base64."""
        dialect = EtcdDialect("h:1")

        found = [msgspec.json.decode(body) for body in bodies([dialect.write([ADA]), dialect.read(7)])]

        self.assertEqual(found, [{"key": KEY, "value": VALUE}, {"key": KEY}])
        self.assertIn(b"POST /v3/kv/put HTTP/1.1\r\nHost: h:1\r\n", dialect.write([ADA]))

    def test_judging_writes(self) -> None:
        """A put is right if it tells a revision."""
        check = EtcdDialect("h:1").written(1)

        self.assertIsNone(check(0, 200, b'{"header":{"revision":"5"}}'))
        self.assertIsNotNone(check(0, 200, b"{}"))
        self.assertIsNotNone(check(0, 503, b'{"header":{"revision":"5"}}'))

    def test_judging_reads(self) -> None:
        """The value must be the row; an empty answer is right only for a row of unknown outcome."""
        check = EtcdDialect("h:1").reads_of([ADA, ADA], unknown=())
        lenient = EtcdDialect("h:1").reads_of([ADA], unknown=[7])
        answer = msgspec.json.encode({"header": {}, "kvs": [{"key": KEY, "value": VALUE}], "count": "1"})

        self.assertIsNone(check(0, 200, answer))
        for wrong in (b'{"header":{}}', b"no", answer.replace(b"eyJ", b"eyK")):
            self.assertIsNotNone(check(1, 200, wrong))
        self.assertIsNone(lenient(0, 200, b'{"header":{}}'))


class Layouts(SynchronousTestCase):
    def test_spread(self) -> None:
        """Every shard has its replicas on different servers, and servers have about as many each."""
        for servers, shards, replicas in ((7, 4, 1), (7, 4, 5), (6, 16, 3), (3, 4, 3)):
            layout = spread(servers, shards, replicas)
            held = [shard for names in layout.servers.values() for shard in names]

            self.assertEqual({held.count(one.name) for one in layout.shards}, {replicas})
            self.assertTrue(all(len(set(names)) == len(names) for names in layout.servers.values()))
            self.assertLessEqual(max(map(len, layout.servers.values())), -(-shards * replicas // servers))
            self.assertEqual(layout.init_request()["replicas"], replicas)

    def test_too_many_replicas(self) -> None:
        """More replicas than servers are refused."""
        self.assertRaises(ValueError, spread, 3, 1, 4)

    def test_large(self) -> None:
        """A-1 with larger shards keeps its placement."""
        self.assertEqual(large_a_1().servers, A_1.servers)
        self.assertEqual(large_a_1(8).capacity(), 32)


class Wrk(SynchronousTestCase):
    def test_what_it_prints(self) -> None:
        """The last line has the counts; answers that are not 2xx are no successes."""
        line = (
            b'{"requests":100,"duration_us":2000000,"bytes":5000,"connect":0,"read":0,"write":0,"status":10,'
            b'"timeout":1,"rounds":1,"p50_us":1500,"p90_us":2000,"p99_us":3000,"p999_us":4000,"max_us":5000}'
        )

        found = blast_of(b"Running 2s test\nRequests/sec: 50\n\n" + line + b"\n", b"", 0)

        self.assertEqual((found.succeeded, found.figures["rate_per_second"], found.figures["p50_ms"]), (90, 45.0, 1.5))
        self.assertEqual(found.errors, {"wrk status": 10, "wrk timeout": 1})
        self.assertTrue(found.ran_out)

    def test_failure(self) -> None:
        """Without counts it is an error with what wrk said."""
        failure = self.assertRaises(WrkError, blast_of, b"", b"unable to connect\n", 1)

        self.assertIn("unable to connect", str(failure))
