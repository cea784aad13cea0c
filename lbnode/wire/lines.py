"""Rows as lines of JSON, one object per line (NDJSON, application/x-ndjson), in pieces as they come."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dbnode.errors import ApiError
from dbnode.jsonhttp import NDJSON, Headers, media_type
from dbnode.schema import Schema, row_from_object
from dbnode.wire import Row

#: The longest line, in bytes: it is kept until its end has come.
LINE_BYTES_MAX = 1 << 20
#: How much of a line that is no JSON an error shows.
_SHOWN_CHARACTERS_MAX = 80

_decode = msgspec.json.Decoder().decode


def wanted_as_lines(headers: Headers) -> bool:
    """Return whether a request asks for lines of JSON; anything else that it accepts is taken for JSON."""
    accept = headers.get(b"accept")
    return accept is not None and NDJSON in map(media_type, accept.split(b","))


class RowLines:
    """The rows in a body that comes piece by piece.

    `line` is the number of the last whole line, counted from 1; `size_bytes` is how long those lines were together
    that the last call returned the rows of.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rest = bytearray()
        self.line = 0
        self.size_bytes = 0

    def rows(self, piece: bytes) -> list[Row]:
        """Return the rows that this piece completes; empty lines are none.

        Raises ApiError that names the line: `bad_json`, `line_too_long` (413), or as dbnode.schema.row_from_object.
        """
        end = piece.rfind(b"\n") + 1
        whole = b""
        if end:
            whole = bytes(self._rest) + piece[:end]
            self._rest.clear()
        self._rest += piece[end:]
        self.size_bytes = len(whole)
        rows = self._decoded(whole.split(b"\n")[:-1])
        if len(self._rest) > LINE_BYTES_MAX:
            raise ApiError(
                "line_too_long",
                f"line {self.line + 1} is longer than {LINE_BYTES_MAX} bytes; a line is one row",
                status=413,
            )
        return rows

    def last(self) -> list[Row]:
        """Return the row of a last line that no newline ended, if there is one; errors as in `rows`."""
        rest = bytes(self._rest)
        self._rest.clear()
        self.size_bytes = len(rest)
        return self._decoded([rest]) if rest else []

    def _decoded(self, lines: Sequence[bytes]) -> list[Row]:
        rows = []
        for line in lines:
            self.line += 1
            if line and not line.isspace():
                rows.append(row_from_object(self._schema, self._value(line), f"line {self.line}"))
        return rows

    def _value(self, line: bytes) -> object:
        try:
            return _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            shown = line.decode(errors="replace").strip()
            if len(shown) > _SHOWN_CHARACTERS_MAX:
                shown = shown[:_SHOWN_CHARACTERS_MAX] + "…"
            text = f"line {self.line} is not JSON ({error}): {shown!r}; each line must be one JSON object"
            raise ApiError("bad_json", text) from None
