"""What clients do to HTTP and JSON: odd paths, wrong methods, broken and huge bodies. The answer is always JSON."""

from __future__ import annotations

from lbnode.test.conformance import ConformanceCase, row

_READ = b'{"Stud_id":{"low":7,"high":7}}'
_BROKEN = (b"", b" ", b"{", b"nonsense", b'{"data":[}', b"\xff\xfe", b'{"a":"\xff"}', b"{} {}", b"NaN", b"{'a':1}")
_BODIES = (
    ("POST", "/write"),
    ("POST", "/read"),
    ("GET", "/read"),
    ("PUT", "/update"),
    ("DELETE", "/del"),
    ("POST", "/init"),
)


class Bodies(ConformanceCase):
    def test_what_is_not_json(self) -> None:
        """A body that is not JSON is a 400 on every endpoint that wants one."""
        for body in (
            b"",
            b" ",
            b"{",
            b"nonsense",
            b'{"data":[}',
            b"\xff\xfe",
            b'{"a":"\xff"}',
            b"{} {}",
            b"NaN",
            b"{'a':1}",
        ):
            for method, path in _BODIES:
                self.check_refused(self.door.send(method, path, body), 400, "bad_json")

    def test_json_that_is_no_object(self) -> None:
        """An array, a string, a number or null is a 400."""
        for body in (b"[]", b'"x"', b"5", b"null", b"true"):
            for method, path in _BODIES:
                self.check_refused(self.door.send(method, path, body), 400, "bad_json", "object")

    def test_deep_and_long_numbers(self) -> None:
        """Nesting without end and numbers without end are a 400, not an accident."""
        deep = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        digits = b'{"data":[{"Stud_id":' + b"9" * 10_000 + b',"Stud_name":"x","Stud_marks":1}]}'
        exponent = b'{"data":[{"Stud_id":1,"Stud_name":1e999,"Stud_marks":1}]}'
        for body in (deep, digits, exponent):
            reply = self.door.send("POST", "/write", body)
            self.assertEqual((reply.status, reply.json["status"]), (400, "failure"), reply.body[:200])

    def test_any_content_type_that_clients_send(self) -> None:
        """No Content-Type, a form's or text: what parses as JSON is taken."""
        self.stored(row(7))
        for content_type in (
            None,
            "application/json",
            "application/json; charset=utf-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/plain",
            "nonsense",
        ):
            headers = {} if content_type is None else {"Content-Type": content_type}
            reply = self.door.send("POST", "/read", _READ, headers)
            self.assertEqual((reply.status, reply.json["data"]), (200, [row(7)]), content_type)

    def test_compressed_body(self) -> None:
        """A content coding is a 415."""
        reply = self.door.send("POST", "/write", b"\x1f\x8b\x08", {"Content-Encoding": "gzip"})

        self.check_refused(reply, 415, "unsupported_media_type", "gzip")

    def test_huge_body(self) -> None:
        """A body beyond the limit is a 413 that tells the limit."""
        reply = self.door.send("POST", "/write", b" " * (16 << 20) + b"{}")

        self.check_refused(reply, 413, "body_too_large", str(16 << 20))

    def test_too_many_rows(self) -> None:
        """More rows than one request may have are a 413."""
        error = self.refuse(413, "too_many_rows", "POST", "/write", {"data": [1] * 100_001}, "100000")

        self.assertEqual(error["applied"], "no")

    def test_fields_in_any_case(self) -> None:
        """The contract's fields may be written in any case; columns inside rows are exact."""
        self.succeed("POST", "/write", {"DATA": [row(7)], "On_Conflict": "error"})
        self.assertEqual(self.succeed("POST", "/read", {"STUD_ID": {"Low": 7, "HIGH": 7}})["data"], [row(7)])
        self.succeed("PUT", "/update", {"stud_id": 7, "Data": {"Stud_name": "x"}})
        self.refuse(400, "unknown_column", "PUT", "/update", {"Stud_id": 7, "data": {"stud_name": "y"}})
        self.succeed("DELETE", "/del", {"sTUD_iD": 7})

    def test_unknown_fields_are_ignored(self) -> None:
        """Fields that the contract does not know are no error outside of rows."""
        self.succeed("POST", "/write", {"data": [row(7)], "comment": "hello"})


class Paths(ConformanceCase):
    def test_unknown_paths(self) -> None:
        """What is not in the contract is a 404 in JSON."""
        for path in (
            "/",
            "/nothing",
            "/write/more",
            "/Write",
            "/read/a/b",
            "/%ff",
            "/favicon.ico",
            "/..%2f",
        ):
            for method in ("GET", "POST", "DELETE"):
                self.check_refused(self.call(method, path), 404, "unknown_path")

    def test_wrong_methods(self) -> None:
        """A known path with another method is a 405 that names the right ones."""
        for method, path, allowed in (
            ("GET", "/write", "POST"),
            ("POST", "/update", "PUT"),
            ("POST", "/del", "DELETE"),
            ("PUT", "/read", "POST"),
            ("GET", "/init", "POST"),
            ("POST", "/status", "GET"),
            ("DELETE", "/read/Server0", "GET"),
            ("PATCH", "/write", "POST"),
            ("BREW", "/write", "POST"),
        ):
            reply = self.call(method, path)
            self.check_refused(reply, 405, "method_not_allowed", allowed)
            self.assertIn(allowed, reply.headers["allow"])

    def test_repeated_slashes_and_queries(self) -> None:
        """`//path`, a trailing slash and a query string change nothing."""
        self.stored(row(7))
        for path in ("//read", "///read", "/read/", "/read?x=1", "//read//"):
            reply = self.door.send("POST", path, _READ)
            self.assertEqual((reply.status, reply.json["data"]), (200, [row(7)]), path)
        self.succeed("GET", "//status")
        self.succeed("GET", "//read//Server0")

    def test_head(self) -> None:
        """HEAD has the status of GET and no body."""
        reply = self.call("HEAD", "/healthz")

        self.assertEqual((reply.status, reply.body), (200, b""))
