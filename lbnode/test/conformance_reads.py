"""POST /read and its relatives: ranges, pages, what a server holds."""

from __future__ import annotations

from lbnode.test.conformance import LAST_ID, ConformanceCase, row

_ALL = {"low": -(1 << 63), "high": LAST_ID}


class Reads(ConformanceCase):
    def test_range_has_both_ends(self) -> None:
        """Rows come by id, with both ends of the range, and the shards that it touches are named in order."""
        self.stored(*(row(key) for key in (8889, 1000, 999, 5000, 8890, 4096)))

        answer = self.succeed("POST", "/read", {"Stud_id": {"low": 1000, "high": 8889}})

        self.assertEqual(
            answer,
            {
                "shards_queried": ["sh1", "sh2", "sh3"],
                "data": [row(1000), row(4096), row(5000), row(8889)],
                "status": "success",
            },
        )

    def test_single_id(self) -> None:
        """A range of one id is one row, or none."""
        self.stored(row(4095), row(4096))

        for key, shards, data in ((4095, ["sh1"], [row(4095)]), (4096, ["sh2"], [row(4096)]), (4097, ["sh2"], [])):
            answer = self.succeed("POST", "/read", {"Stud_id": {"low": str(key), "high": key}})
            self.assertEqual((answer["shards_queried"], answer["data"]), (shards, data))

    def test_ids_of_no_shard_are_simply_not_there(self) -> None:
        """A range beyond or between the shards is an empty success."""
        for low, high in ((12288, 20000), (-50, -1), (12288, LAST_ID - 4096)):
            answer = self.succeed("POST", "/read", {"Stud_id": {"low": low, "high": high}})
            self.assertEqual(answer, {"shards_queried": [], "data": [], "status": "success"})

    def test_range_over_gaps(self) -> None:
        """A range may begin and end where no shard is."""
        self.stored(row(0), row(12287), row(LAST_ID))

        answer = self.succeed("POST", "/read", {"Stud_id": _ALL})

        self.assertEqual(answer["shards_queried"], ["sh1", "sh2", "sh3", "sh4"])
        self.assertEqual([one["Stud_id"] for one in answer["data"]], [0, 12287, LAST_ID])

    def test_get_with_a_body(self) -> None:
        """GET with a body reads as POST does."""
        self.stored(row(7))

        self.assertEqual(self.succeed("GET", "/read", {"Stud_id": {"low": 7, "high": 7}})["data"], [row(7)])

    def test_consistency(self) -> None:
        """Both words are taken, and no other."""
        for word in ("linearizable", "stale", None):
            self.succeed("POST", "/read", {"Stud_id": {"low": 0, "high": 9}, "consistency": word})
        for wrong in ("eventual", 1):
            request = {"Stud_id": {"low": 0, "high": 9}, "consistency": wrong}
            self.refuse(400, "bad_consistency", "POST", "/read", request, "stale")

    def test_limit_and_next(self) -> None:
        """A limit cuts the range, and `next` goes on from there until it is missing."""
        ids = [0, 1, 2, 4095, 4096, 5000, 8192, LAST_ID]
        self.stored(*(row(key) for key in ids))
        for limit in (1, 2, 3, 4, 7, 8, 9):
            found, low = [], -(1 << 63)
            for _ in range(20):
                request = {"Stud_id": {"low": low, "high": LAST_ID}, "limit": limit}
                answer = self.succeed("POST", "/read", request)
                self.assertLessEqual(len(answer["data"]), limit)
                found += [one["Stud_id"] for one in answer["data"]]
                if "next" not in answer:
                    break
                low = answer["next"]

            self.assertEqual(found, ids, f"limit {limit}")

    def test_limit_asks_no_more_shards_than_it_needs(self) -> None:
        """Shards behind the limit are not queried."""
        self.stored(row(0), row(1), row(5000))

        answer = self.succeed("POST", "/read", {"Stud_id": _ALL, "limit": 1})

        self.assertEqual((answer["data"], answer["next"], answer["shards_queried"]), ([row(0)], 1, ["sh1"]))

    def test_large_answer_is_whole(self) -> None:
        """An answer of megabytes over several shards has every row once, in order."""
        ids = [*range(0, 300), *range(4096, 4396), *range(8192, 8492)]
        for start in range(0, len(ids), 100):
            self.stored(*(row(key, "é" * 1500, key) for key in ids[start : start + 100]))

        reply = self.call("POST", "/read", {"Stud_id": _ALL})

        self.assertTrue(reply.whole)
        self.assertGreater(len(reply.body), 2_000_000)
        self.assertEqual(reply.json["data"], [row(key, "é" * 1500, key) for key in ids])

    def test_wrong_ranges(self) -> None:
        """What is no range is a 400 that says what would be one."""
        for wrong, code in (
            ({}, "missing_field"),
            ({"Stud_id": 7}, "bad_range"),
            ({"Stud_id": None}, "bad_range"),
            ({"Stud_id": {"low": 7}}, "missing_field"),
            ({"Stud_id": {"low": 7, "high": "x"}}, "bad_key"),
            ({"Stud_id": {"low": 1.5, "high": 2}}, "bad_key"),
            ({"Stud_id": {"low": 0, "high": LAST_ID + 1}}, "bad_key"),
            ({"Stud_id": {"low": 8, "high": 7}}, "bad_range"),
            ({"Stud_id": {"low": 7, "high": 7}, "limit": 0}, "bad_limit"),
            ({"Stud_id": {"low": 7, "high": 7}, "limit": "5"}, "bad_limit"),
        ):
            self.refuse(400, code, "POST", "/read", wrong)


class ServerReads(ConformanceCase):
    def test_what_a_server_holds(self) -> None:
        """Every server tells the rows of each shard that it has a replica of."""
        self.stored(row(0), row(1), row(4096), row(LAST_ID))

        for server in ("Server0", "Server1"):
            answer = self.succeed("GET", f"/read/{server}")
            self.assertEqual(
                answer,
                {"sh1": [row(0), row(1)], "sh2": [row(4096)], "sh3": [], "sh4": [row(LAST_ID)], "status": "success"},
            )

    def test_unknown_server(self) -> None:
        """A server that is not there is a 404 that names those that are."""
        for path in ("/read/Server9", "/read/server0", "/read/%D1%81", "/read/a%20b"):
            self.check_refused(self.call("GET", path), 404, "unknown_server", "Server0")
