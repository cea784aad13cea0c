"""POST /write, PUT /update, DELETE /del: texts, refusals, and that what goes in comes out again."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import msgspec

from lbnode.test.conformance import LAST_ID, ConformanceCase, row

_WRITTEN = '{"message":"%d Data entries added","status":"success"}'


class Writes(ConformanceCase):
    def test_write_says_how_many_rows_it_stored(self) -> None:
        """A write over several shards answers with the count of all its rows."""
        reply = self.write(row(0), row(4096), row(8192), row(1))

        self.assertEqual((reply.status, reply.body.decode()), (200, _WRITTEN % 4))
        self.assertEqual([one["Stud_id"] for one in self.rows()], [0, 1, 4096, 8192])

    def test_empty_write(self) -> None:
        """No rows are a success of 0."""
        reply = self.write()

        self.assertEqual((reply.status, reply.body.decode()), (200, _WRITTEN % 0))

    def test_first_and_last_ids(self) -> None:
        """0, both ends of each shard, and the greatest id of 64 bits are ordinary ids, also as strings."""
        ids = [0, 4095, 4096, 8191, 8192, 12287, LAST_ID - 4095, LAST_ID]

        reply = self.write(*(row(str(key) if place % 2 else key) for place, key in enumerate(ids)))

        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual([one["Stud_id"] for one in self.rows()], ids)

    def test_values_keep_their_kind(self) -> None:
        """Strings, integers, doubles, booleans and null come back as what they were."""
        values = ["27", 27, 27.0, -0.5, 1e300, 5e-324, LAST_ID, -(1 << 63), True, False, None, ""]
        self.stored(*(row(key, value, value) for key, value in enumerate(values)))

        back = [(one["Stud_name"], one["Stud_marks"]) for one in self.rows()]

        self.assertEqual(list(map(repr, back)), [repr((value, value)) for value in values])

    def test_text_of_any_kind(self) -> None:
        """Quotes, separators, control characters, any script, and 10 kB come back unchanged."""
        texts = [
            'O\'Brien "quoted" \\ back|slash; -- ${x} %s {}',
            "a|b,c\r\nd\te\x01\x7f",
            "Ольга 李小龍 👩‍👩‍👧‍👦 é e\u0301 \u202e \ufeff \ufffd \U0010ffff \u2028",
            "x" * 10_240,
            "\\u0000 in letters",
            "ж" * 10_240,
        ]
        self.stored(*(row(key, text) for key, text in enumerate(texts)))

        self.assertEqual([one["Stud_name"] for one in self.rows()], texts)

    def test_order_of_columns_does_not_matter(self) -> None:
        """A row's fields may come in any order."""
        self.succeed("POST", "/write", {"data": [{"Stud_marks": 1, "Stud_name": "a", "Stud_id": 7}]})

        self.assertEqual(self.rows(), [row(7, "a", 1)])

    def test_duplicate_in_the_table(self) -> None:
        """An id that exists is a 409 with the ids, and nothing of that shard's part is stored."""
        self.stored(row(2255), row(2257))

        error = self.refuse(
            409, "duplicate", "POST", "/write", {"data": [row(2254), row(2255), row(2257), row(2256)]}, "2255"
        )

        self.assertEqual((error["ids"], error["applied"]), ([2255, 2257], "no"))
        self.assertEqual(error["shards"], {"sh1": {"refused": [2254, 2255, 2257, 2256]}})
        self.assertEqual([one["Stud_id"] for one in self.rows()], [2255, 2257])

    def test_duplicate_in_the_request(self) -> None:
        """An id twice in one request is a 409 before any shard is asked, however it is written."""
        error = self.refuse(409, "duplicate", "POST", "/write", {"data": [row(5000), row(1), row("1")]}, "1")

        self.assertEqual((error["ids"], error["applied"]), ([1], "no"))
        self.assertEqual(self.rows(), [])

    def test_some_shards_take_their_part(self) -> None:
        """Where one shard refuses, the answer is no success and says what each shard did."""
        self.stored(row(5000))

        error = self.refuse(409, "duplicate", "POST", "/write", {"data": [row(1), row(5000), row(5001), row(9000)]})

        self.assertEqual((error["ids"], error["applied"]), ([5000], "partial"))
        self.assertEqual(
            error["shards"], {"sh1": {"stored": [1]}, "sh2": {"refused": [5000, 5001]}, "sh3": {"stored": [9000]}}
        )
        self.assertEqual([one["Stud_id"] for one in self.rows()], [1, 5000, 9000])

    def test_on_conflict_ignore(self) -> None:
        """With `ignore` rows that exist stay as they are, and the count is what was stored."""
        self.stored(row(1, "old"))

        reply = self.write(row(1, "new"), row(2, "new"), row(5000), on_conflict="ignore")

        self.assertEqual((reply.status, reply.body.decode()), (200, _WRITTEN % 2))
        self.assertEqual(self.rows(), [row(1, "old"), row(2, "new"), row(5000)])

    def test_on_conflict_replace(self) -> None:
        """With `replace` rows that exist are replaced."""
        self.stored(row(1, "old"))

        reply = self.write(row(1, "new"), row(2, "new"), on_conflict="replace")

        self.assertEqual((reply.status, reply.body.decode()), (200, _WRITTEN % 2))
        self.assertEqual(self.rows(), [row(1, "new"), row(2, "new")])

    def test_ids_of_no_shard(self) -> None:
        """Ids between, before and behind the shards are a 400 that lists them all, and nothing is stored."""
        error = self.refuse(400, "no_shard", "POST", "/write", {"data": [row(1), row(12288), row(-1)]}, "12288", "-1")

        self.assertEqual((error["ids"], error["applied"]), ([12288, -1], "no"))
        self.assertEqual(self.rows(), [])

    def test_wrong_rows_store_nothing(self) -> None:
        """All rows are checked before any shard is asked: one wrong row and none is stored."""
        for wrong, code, mentioning in (
            ({**row(2), "Stud_age": 5}, "unknown_column", "Stud_age"),
            ({"Stud_id": 2, "Stud_name": "x"}, "missing_column", "Stud_marks"),
            ({**row(2), "stud_id": 3}, "unknown_column", "stud_id"),
            (row(None), "bad_key", "null"),
            (row(1.5), "bad_key", "1.5"),
            (row(2.0), "bad_key", "2.0"),
            (row(True), "bad_key", "true"),
            (row("two"), "bad_key", "two"),
            (row(""), "bad_key", "Stud_id"),
            (row(LAST_ID + 1), "bad_key", str(LAST_ID + 1)),
            (row(str(LAST_ID + 1)), "bad_key", str(LAST_ID + 1)),
            (row(2, []), "bad_value", "Stud_name"),
            (row(2, {}), "bad_value", "Stud_name"),
            (row(2, 1 << 63), "bad_value", "Stud_name"),
            ("row", "bad_value", "data[1]"),
            (None, "bad_value", "data[1]"),
        ):
            error = self.refuse(400, code, "POST", "/write", {"data": [row(1), wrong]}, mentioning)
            self.assertEqual(error["applied"], "no")
        no_lists: tuple[Any, ...] = ("x", 5, None, {})
        for no_list in no_lists:
            self.refuse(400, "bad_value", "POST", "/write", {"data": no_list})
        self.refuse(400, "missing_field", "POST", "/write", {"rows": []}, "data")
        self.refuse(400, "bad_on_conflict", "POST", "/write", {"data": [row(1)], "on_conflict": "upsert"}, "replace")
        self.assertEqual(self.rows(), [])

    def test_strings_that_are_no_text(self) -> None:
        """NUL and half a surrogate pair are a 400, and nothing is stored."""
        for escape in ("\\u0000", "\\ud800", "\\udc00x", "\\ud83d\\ud83d"):
            body = msgspec.json.encode({"data": [row(1, "HERE")]}).replace(b"HERE", escape.encode())
            reply = self.door.send("POST", "/write", body)
            self.assertEqual(reply.status, 400, reply.body)
            self.assertIn(reply.json["code"], ("bad_value", "bad_json"))
        self.assertEqual(self.rows(), [])

    def test_many_rows_at_once(self) -> None:
        """Thousands of rows in one request are stored as a whole."""
        reply = self.write(*(row(key, "x" * 50) for key in range(4000, 9000)))

        self.assertEqual(reply.body.decode(), _WRITTEN % 5000)
        self.assertEqual(len(self.rows(4000, 8999)), 5000)


class Updates(ConformanceCase):
    def test_update_changes_only_what_is_given(self) -> None:
        """The other columns stay."""
        self.stored(row(2255, "GHI", 27))

        reply = self.call("PUT", "/update", {"Stud_id": 2255, "data": {"Stud_marks": "28"}})

        self.assertEqual(reply.body, b'{"message":"Data entry for Stud_id: 2255 updated","status":"success"}')
        self.assertEqual(self.rows(), [row(2255, "GHI", "28")])

    def test_update_may_repeat_the_id(self) -> None:
        """The same id in the data is fine, also as a string; another one is a 400."""
        self.stored(row(7))

        self.succeed("PUT", "/update", {"Stud_id": "7", "data": {"Stud_id": 7, "Stud_name": "n", "Stud_marks": None}})
        error = self.refuse(400, "bad_key", "PUT", "/update", {"Stud_id": 7, "data": {"Stud_id": 8}}, "8")

        self.assertEqual(error["applied"], "no")
        self.assertEqual(self.rows(), [row(7, "n", None)])

    def test_update_of_what_is_not_there(self) -> None:
        """An absent id and an id of no shard are 404s of different codes."""
        for key, code in ((2255, "not_found"), (12288, "no_shard"), (-1, "no_shard")):
            error = self.refuse(404, code, "PUT", "/update", {"Stud_id": key, "data": {"Stud_name": "x"}}, str(key))
            self.assertEqual(error["applied"], "no")

    def test_wrong_updates_change_nothing(self) -> None:
        """Unknown columns, wrong values and missing fields are 400s."""
        self.stored(row(7))
        for request, code in (
            ({"Stud_id": 7, "data": {"Stud_age": 1}}, "unknown_column"),
            ({"Stud_id": 7, "data": {"Stud_name": [1]}}, "bad_value"),
            ({"Stud_id": 7, "data": []}, "bad_value"),
            ({"Stud_id": 7}, "missing_field"),
            ({"data": {"Stud_name": "x"}}, "missing_field"),
            ({"Stud_id": 7.5, "data": {}}, "bad_key"),
            ({"Stud_id": LAST_ID + 1, "data": {}}, "bad_key"),
        ):
            self.assertEqual(self.refuse(400, code, "PUT", "/update", request)["applied"], "no")

        self.assertEqual(self.rows(), [row(7)])


class Deletions(ConformanceCase):
    def test_delete(self) -> None:
        """A row that was removed is gone, and may be written again."""
        self.stored(row(0), row(1))

        reply = self.call("DELETE", "/del", {"Stud_id": 0})

        self.assertEqual(
            reply.body, b'{"message":"Data entry with Stud_id:0 removed from all replicas","status":"success"}'
        )
        self.assertEqual(self.rows(), [row(1)])
        self.stored(row(0, "again"))

    def test_delete_of_what_is_not_there(self) -> None:
        """An absent id and an id of no shard are 404s, a wrong one is a 400."""
        for key, status, code in (
            (2255, 404, "not_found"),
            ("2255", 404, "not_found"),
            (12288, 404, "no_shard"),
            (1.0, 400, "bad_key"),
            (None, 400, "bad_key"),
        ):
            error = self.refuse(status, code, "DELETE", "/del", {"Stud_id": key})
            self.assertEqual(error["applied"], "no")
        self.refuse(400, "missing_field", "DELETE", "/del", {}, "Stud_id")


class Idempotency(ConformanceCase):
    def test_same_key_and_body_are_applied_once(self) -> None:
        """A retry under the same key gets the first outcome again, though the row exists by now."""
        request, key = {"data": [row(1), row(5000)]}, {"Idempotency-Key": token_hex()}

        first = self.call("POST", "/write", request, key)
        again = self.call("POST", "/write", request, key)

        self.assertEqual((first.status, first.body), (200, b'{"message":"2 Data entries added","status":"success"}'))
        self.assertEqual((again.status, again.body), (first.status, first.body))
        self.assertEqual(len(self.rows()), 2)

    def test_same_key_for_another_body(self) -> None:
        """A key that came with another request for the same shard is a 409."""
        key = {"Idempotency-Key": token_hex()}
        self.succeed("POST", "/write", {"data": [row(1)]}, key)

        for method, path, request in (
            ("POST", "/write", {"data": [row(2)]}),
            ("PUT", "/update", {"Stud_id": 1, "data": {"Stud_name": "x"}}),
            ("DELETE", "/del", {"Stud_id": 1}),
        ):
            error = self.check_refused(self.call(method, path, request, key), 409, "idempotency_key_reused")
            self.assertEqual(error["applied"], "no")

        self.assertEqual(self.rows(), [row(1)])

    def test_update_and_delete_once(self) -> None:
        """A deletion that is retried says again that it removed the row; so does an update."""
        self.stored(row(1))
        update = {"Stud_id": 1, "data": {"Stud_name": "x"}}
        for method, path, request in (("PUT", "/update", update), ("DELETE", "/del", {"Stud_id": 1})):
            key = {"Idempotency-Key": token_hex()}

            first = self.call(method, path, request, key)
            again = self.call(method, path, request, key)

            self.assertEqual((first.status, again.status, first.body), (200, 200, again.body))

    def test_wrong_keys(self) -> None:
        """A key must be short printable text."""
        for wrong in ("", "x" * 256):
            reply = self.call("POST", "/write", {"data": [row(1)]}, {"Idempotency-Key": wrong})
            self.check_refused(reply, 400, "bad_idempotency_key")
        self.assertEqual(self.rows(), [])
