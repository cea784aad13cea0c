"""What a copy of a store looks like on its way: a run of chunks, the same for every engine.

Each chunk is a MessagePack array [kind, items]. Kinds come in the order of `_Kind`: one header, then rows by id,
sessions, results and idempotency keys in as many chunks as they need, then one end with the rows' digest and a
checksum of all that came before. The position is that of one transaction, so rows and sessions belong together
(RAFT_RULES 8). The digest depends on nothing but the rows: replicas with equal rows have equal digests, whatever
stored them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import blake2b
from typing import Any

import msgspec

from dbnode.changes import Changes, KeyRecord, Position, Results, SessionMark
from dbnode.schema import INT64_MIN, Schema
from dbnode.wire import Row

FORMAT = 1
DIGEST_BYTES = 16


class SnapshotError(Exception):
    """What came is no snapshot of this table, or it is damaged, out of order or not complete."""


class _Kind(IntEnum):
    HEADER = 0
    ROWS = 1
    SESSIONS = 2
    RESULTS = 3
    KEYS = 4
    END = 5


class _Header(msgspec.Struct, frozen=True, array_like=True):
    format: int
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    position: Position


class _End(msgspec.Struct, frozen=True, array_like=True):
    checksum: bytes
    rows_digest: bytes


class _Chunk(msgspec.Struct, frozen=True, array_like=True):
    kind: int
    items: msgspec.Raw


class Content(msgspec.Struct, frozen=True):
    """What there is to copy, at one position; rows come in order of id."""

    schema: Schema
    position: Position
    rows: Iterator[Row]
    sessions: Iterator[tuple[str, SessionMark]]
    results: Iterator[tuple[str, int, Results]]
    keys: Iterator[tuple[str, KeyRecord]]


class RowsDigest(msgspec.Struct, frozen=True):
    """What replicas compare: equal rows give equal digests, whatever stored them."""

    applied_index: int
    row_count: int
    digest: str


_encode = msgspec.msgpack.Encoder().encode
_decode_chunk = msgspec.msgpack.Decoder(_Chunk).decode
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    _Kind.HEADER: msgspec.msgpack.Decoder(tuple[_Header]),
    _Kind.ROWS: msgspec.msgpack.Decoder(list[Row]),
    _Kind.SESSIONS: msgspec.msgpack.Decoder(list[tuple[str, SessionMark]]),
    _Kind.RESULTS: msgspec.msgpack.Decoder(list[tuple[str, int, Results]]),
    _Kind.KEYS: msgspec.msgpack.Decoder(list[tuple[str, KeyRecord]]),
    _Kind.END: msgspec.msgpack.Decoder(tuple[_End]),
}


def chunks(content: Content, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the chunks of a copy, each ending with the item that brings it to `chunk_bytes`."""
    writer = SnapshotWriter(content.schema, chunk_bytes)
    yield writer.header(content.position)
    yield from writer.rows(content.rows)
    yield from writer.sessions(content.sessions)
    yield from writer.results(content.results)
    yield from writer.keys(content.keys)
    yield writer.end()


class SnapshotWriter:
    """Makes the chunks of a copy; its methods are to be called in this order, all but the first and last also often.

    A chunk ends with the item that brings it to `chunk_bytes`, or with the last one of a call.
    """

    def __init__(self, schema: Schema, chunk_bytes: int) -> None:
        self._schema = schema
        self._chunk_bytes = chunk_bytes
        self._checksum = _hash()
        self._rows_digest = _hash()

    def header(self, position: Position) -> bytes:
        """Return the first chunk."""
        header = _Header(FORMAT, self._schema.columns, self._schema.dtypes, position)
        return self._summed(_Kind.HEADER, _encode(header), 1)

    def rows(self, rows: Iterable[Row]) -> Iterator[bytes]:
        """Yield chunks with rows, which come by id."""
        for packed, count in _packed(rows, self._chunk_bytes):
            self._rows_digest.update(packed)
            yield self._summed(_Kind.ROWS, packed, count)

    def sessions(self, sessions: Iterable[tuple[str, SessionMark]]) -> Iterator[bytes]:
        """Yield chunks with sessions."""
        return self._chunks(_Kind.SESSIONS, sessions)

    def results(self, results: Iterable[tuple[str, int, Results]]) -> Iterator[bytes]:
        """Yield chunks with results of sessions."""
        return self._chunks(_Kind.RESULTS, results)

    def keys(self, keys: Iterable[tuple[str, KeyRecord]]) -> Iterator[bytes]:
        """Yield chunks with idempotency keys."""
        return self._chunks(_Kind.KEYS, keys)

    def end(self) -> bytes:
        """Return the last chunk."""
        digest = self._rows_digest.digest()
        self._checksum.update(digest)
        return _chunk(_Kind.END, _encode(_End(self._checksum.digest(), digest)), 1)

    def _chunks(self, kind: _Kind, items: Iterable[Any]) -> Iterator[bytes]:
        for packed, count in _packed(items, self._chunk_bytes):
            yield self._summed(kind, packed, count)

    def _summed(self, kind: _Kind, packed: bytes, count: int) -> bytes:
        chunk = _chunk(kind, packed, count)
        self._checksum.update(chunk)
        return chunk


class SnapshotReader:
    """Takes the chunks of a copy in order and says what each puts into an empty store."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._checksum = _hash()
        self._kind: _Kind | None = None
        self._position = Position()
        self._rows = 0
        self._last_id = INT64_MIN - 1

    @property
    def position(self) -> Position:
        """The position of the copy, known from the first chunk on."""
        return self._position

    @property
    def is_complete(self) -> bool:
        """Whether the last chunk was read."""
        return self._kind is _Kind.END

    def read(self, chunk: bytes) -> Changes:
        """Return what the next chunk brings; raises SnapshotError if it can't be the next one."""
        try:
            outer = _decode_chunk(chunk)
            items = _DECODERS[outer.kind].decode(outer.items)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as error:
            raise SnapshotError(f"a chunk of {len(chunk)} bytes cannot be read: {error}") from error
        kind = _Kind(outer.kind)
        if not _may_follow(self._kind, kind):
            raise SnapshotError(f"a chunk of kind {kind.name} cannot follow {self._kind!r}")
        self._kind = kind
        if kind is _Kind.END:
            self._check_end(items[0])
        else:
            self._checksum.update(chunk)
        if kind is _Kind.HEADER:
            self._take_header(items[0])
        return self._changes(kind, items)

    def check_complete(self) -> None:
        """Raise SnapshotError unless the last chunk was read."""
        if not self.is_complete:
            raise SnapshotError(f"the copy ends early, after {self._rows} of {self._position.row_count} rows")

    def _changes(self, kind: _Kind, items: Any) -> Changes:
        if kind is _Kind.ROWS:
            self._check_rows(items)
            return Changes(self._position, upserts=items)
        if kind is _Kind.SESSIONS:
            return Changes(self._position, sessions=dict(items))
        if kind is _Kind.RESULTS:
            return Changes(self._position, results={(name, sequence): found for name, sequence, found in items})
        if kind is _Kind.KEYS:
            return Changes(self._position, keys=dict(items))
        return Changes(self._position)

    def _take_header(self, header: _Header) -> None:
        if header.format != FORMAT:
            raise SnapshotError(f"the copy has format {header.format}; this release reads {FORMAT}")
        if (header.columns, header.dtypes) != (self._schema.columns, self._schema.dtypes):
            raise SnapshotError(f"the copy is of a table with columns {header.columns}, not {self._schema.columns}")
        self._position = header.position

    def _check_rows(self, rows: list[Row]) -> None:
        width = len(self._schema.columns)
        for row in rows:
            if len(row) != width or type(row[0]) is not int or row[0] <= self._last_id:
                raise SnapshotError(f"row {row[0] if row else row} cannot follow id {self._last_id}")
            self._last_id = row[0]
        self._rows += len(rows)

    def _check_end(self, end: _End) -> None:
        self._checksum.update(end.rows_digest)
        if end.checksum != self._checksum.digest():
            raise SnapshotError("the checksum of the copy does not match its chunks")
        if self._rows != self._position.row_count:
            raise SnapshotError(f"the copy has {self._rows} rows; its header says {self._position.row_count}")


def summary(first: bytes, last: bytes) -> RowsDigest:
    """Return what the first and the last chunk of a copy say about its rows."""
    header = _DECODERS[_Kind.HEADER].decode(_decode_chunk(first).items)[0]
    end = _DECODERS[_Kind.END].decode(_decode_chunk(last).items)[0]
    return RowsDigest(header.position.applied_index, header.position.row_count, end.rows_digest.hex())


def _may_follow(last: _Kind | None, kind: _Kind) -> bool:
    if last is None:
        return kind is _Kind.HEADER
    return kind > last or (kind is last and kind not in (_Kind.HEADER, _Kind.END))


def _packed(items: Iterable[Any], chunk_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Yield runs of encoded items of about `chunk_bytes`, each with the number of its items."""
    run: list[bytes] = []
    size = 0
    for item in items:
        data = _encode(item)
        run.append(data)
        size += len(data)
        if size >= chunk_bytes:
            yield b"".join(run), len(run)
            run, size = [], 0
    if run:
        yield b"".join(run), len(run)


def _chunk(kind: _Kind, packed: bytes, count: int) -> bytes:
    return _encode(_Chunk(kind, msgspec.Raw(b"\xdd" + count.to_bytes(4, "big") + packed)))


def _hash() -> blake2b:
    return blake2b(digest_size=DIGEST_BYTES)
