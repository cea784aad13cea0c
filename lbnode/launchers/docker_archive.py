"""Single files of a container as the engine hands them over: in tar archives, whether the container runs or not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any


def archive_of(name: str, content: bytes, owner: int) -> bytes:
    """Return an archive with one file that only its owner may read."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    entry.uid = entry.gid = owner
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def only_file(chunks: Iterable[bytes]) -> bytes:
    """Return the content of the file that an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None else None
        return file.read() if file is not None else b""


def has_file(chunks: Iterator[bytes]) -> bool:
    """Tell whether an archive holds a file at all, reading no further than to the first one."""
    source: Any = _Chunks(chunks)
    with tarfile.open(fileobj=source, mode="r|") as archive:
        return any(member.isfile() for member in archive)


class _Chunks:
    """Bytes that come in pieces, as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
