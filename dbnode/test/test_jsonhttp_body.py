"""Bodies: what is accepted, what is refused with which code, and how fields are found."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dbnode.errors import ApiError
from dbnode.jsonhttp import decode_object, decode_strict, fields, need

#: Body, code, and a part of the message.
REFUSED: list[tuple[bytes, str, str]] = [
    (b"", "bad_json", "empty"),
    (b"  \n", "bad_json", "empty"),
    (b'{"a":}', "bad_json", "line 1 column 6 (character 5)"),
    (b'{"a":1,}', "bad_json", "character"),
    (b'{"a":1} x', "bad_json", "Extra data"),
    (b"[1]", "bad_json", "an array"),
    (b'"x"', "bad_json", "a string"),
    (b"null", "bad_json", "null"),
    (b"true", "bad_json", "a boolean"),
    (b"7", "bad_json", "a number"),
    (b'{"a":NaN}', "bad_json", "invalid character (byte 5)"),
    (b'{"a":1e999}', "bad_json", "out of range"),
    (b'{"a":"\xff"}', "bad_json", "not UTF-8"),
    (b'\xff{"a":1}', "bad_json", "not UTF-8 (byte 0)"),
    (b'{"a":"x\\ud800"}', "bad_json", "lone surrogate (near character 7)"),
    (b'{"a":"\xed\xa0\x80"}', "bad_json", "not UTF-8"),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_json", "too deeply"),
    (b'{"a":[{"b":"x\\u0000"}]}', "bad_value", "NUL"),
    (b'{"\\u0000":1}', "bad_value", "NUL"),
]


class DecodeTests(SynchronousTestCase):
    def refusal(self, body: bytes, headers: dict[bytes, bytes] | None = None) -> ApiError:
        """Return what the body is refused with."""
        error: ApiError = self.assertRaises(ApiError, decode_object, headers or {}, body)
        return error

    def test_refusals_name_the_place(self) -> None:
        """Whatever is not a JSON object of Unicode text is a 400 that says what is wrong and where."""
        for body, code, part in REFUSED:
            error = self.refusal(body)

            self.assertEqual((error.code, error.status), (code, 400), body[:40])
            self.assertIn(part, error.text, body[:40])

    def test_values_keep_their_kind(self) -> None:
        """Numbers, strings and escapes come out as JSON means them."""
        body = b'{"i":9223372036854775807,"f":27.0,"s":"\\ud83d\\ude00 \\\\u0000","n":null,"b":true}'

        value = decode_object({}, body)

        self.assertEqual(value, {"i": 2**63 - 1, "f": 27.0, "s": "\U0001f600 \\u0000", "n": None, "b": True})
        self.assertIs(type(value["f"]), float)

    def test_content_type_does_not_matter_if_the_body_is_json(self) -> None:
        """A form's Content-Type, which curl -d sends, or an absurd one is no obstacle."""
        for content_type in (b"application/x-www-form-urlencoded", b"image/png", b"application/json; charset=utf-16"):
            self.assertEqual(decode_object({b"content-type": content_type}, b'{"a":1}'), {"a": 1})

    def test_impossible_content_type_is_415_if_the_body_is_not_json(self) -> None:
        """What says that it is something else, and is not JSON, is refused as something else."""
        for headers in (
            {b"content-type": b"image/png"},
            {b"content-type": b"application/json; charset=utf-16"},
            {b"content-encoding": b"gzip"},
        ):
            error = self.refusal(b"\x1f\x8b", headers)

            self.assertEqual((error.code, error.status), ("unsupported_media_type", 415))

    def test_plausible_content_type_is_400_if_the_body_is_not_json(self) -> None:
        """Where JSON was to be expected, the body is what is wrong."""
        for content_type in (b"application/json", b"text/plain", b"application/problem+json", b""):
            self.assertEqual(self.refusal(b"{", {b"content-type": content_type}).status, 400)

    def test_strict_decoding_refuses_equal_keys_at_any_depth(self) -> None:
        """Two servers of one name in an /init must not become one."""
        body = b'{"servers":{"Server0":["sh1"],"Server1":[],"Server0":["sh2"]}}'

        error = self.assertRaises(ApiError, decode_strict, {}, body)

        self.assertEqual(error.code, "duplicate_key")
        self.assertIn("'Server0'", error.text)
        self.assertEqual(decode_strict({}, b'{"a":{"b":1},"b":1}'), {"a": {"b": 1}, "b": 1})

    def test_strict_decoding_takes_no_longer_for_many_equal_keys(self) -> None:
        """Half a million keys that each stand twice are refused at once, with a few of them named."""
        body = b"{" + b",".join(b'"k%d":1' % (number // 2) for number in range(500_000)) + b"}"

        error = self.assertRaises(ApiError, decode_strict, {}, body)

        self.assertEqual(error.code, "duplicate_key")
        self.assertLess(len(error.text), 200)

    def test_strict_decoding_refuses_what_is_not_json_at_all(self) -> None:
        """Python's own reader is more liberal than JSON; that must not show."""
        self.assertEqual(self.assertRaises(ApiError, decode_strict, {}, b'{"a":NaN}').code, "bad_json")


class FieldsTests(SynchronousTestCase):
    def test_fields_are_found_in_any_case(self) -> None:
        """A field of the contract may be written in any case and comes out under its own name."""
        found = fields({"STUD_ID": 1, "Data": {"Stud_Name": "x"}, "other": 2}, "Stud_id", "data", "limit")

        self.assertEqual(found, {"Stud_id": 1, "data": {"Stud_Name": "x"}})

    def test_exactly_written_fields_win(self) -> None:
        """An extra key that differs only in case does not disturb a field that is there as it should be."""
        self.assertEqual(fields({"data": 1, "DATA": 2}, "data"), {"data": 1})

    def test_ambiguous_fields_are_refused(self) -> None:
        """Of two that could be meant, none is guessed."""
        self.assertEqual(self.assertRaises(ApiError, fields, {"Data": 1, "DATA": 2}, "data").code, "ambiguous_field")

    def test_missing_field_is_named(self) -> None:
        """A request without a field that it must have is a 400 that names it."""
        error = self.assertRaises(ApiError, need, {"a": 1}, "shard")

        self.assertEqual((error.code, error.status), ("missing_field", 400))
        self.assertIn("'shard'", error.text)
        self.assertIsNone(need({"a": None}, "a"))
