"""The catalog as a Raft state machine, kept in a file.

The file is replaced as a whole with each change and synced, so that the log may be cut behind it. Catalogs are small
and change rarely, which is why that may happen in the reactor, and why a copy for another balancer is one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from lbnode.catalog import Catalog, Command
from lbnode.catalog_changes import Refused, apply
from lbnode.durable_file import replace_file
from raftlog.messages import Entry, EntryType
from raftlog.transfer import Export, Import

_decode = msgspec.msgpack.Decoder(Command).decode


class _State(msgspec.Struct, frozen=True):
    """What the file holds: the catalog after the entry `applied_index`."""

    applied_index: int = 0
    catalog: Catalog = Catalog()


class CatalogMachine:
    """A raftlog StateMachine, kept in the file `path`. `load` comes first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _State()
        self._changed: Callable[[Catalog], None] = lambda catalog: None

    def load(self) -> None:
        """Read what was kept. Raises msgspec.DecodeError if the file is damaged."""
        try:
            self._state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            return
        except (ValueError, RecursionError) as error:  # ValueError: msgspec's errors, and bytes that are no UTF-8
            raise msgspec.DecodeError(f"{self._path} is damaged: {error}") from error

    def watch(self, changed: Callable[[Catalog], None]) -> None:
        """Have `changed` hear of every new catalog."""
        self._changed = changed

    @property
    def catalog(self) -> Catalog:
        """The catalog as last applied here."""
        return self._state.catalog

    @property
    def applied_index(self) -> int:
        """See StateMachine.applied_index."""
        return self._state.applied_index

    def apply(self, entries: Sequence[Entry]) -> list[Catalog | Refused]:
        """Apply commands; the result of each is the catalog after it, or why it was refused."""
        catalog = self.catalog
        results: list[Catalog | Refused] = []
        for entry in entries:
            try:
                if entry.type is EntryType.NORMAL and entry.data:
                    catalog = apply(catalog, _decode(entry.data))
                results.append(catalog)
            except Refused as refused:
                results.append(refused)
        self._keep(_State(entries[-1].index, catalog))
        return results

    def _keep(self, state: _State) -> None:
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(state)) + b"\n")
        before, self._state = self._state, state
        if state.catalog != before.catalog:
            self._changed(state.catalog)

    def make_durable(self) -> Deferred[int]:
        """See StateMachine.make_durable."""
        return succeed(self.applied_index)

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """See StateMachine.export."""
        copy: Export = _Export(self.applied_index, msgspec.msgpack.encode(self._state))
        return succeed(copy)

    def begin_import(self) -> Import:
        """See StateMachine.begin_import."""
        return _Import(self._keep)


class _Export:
    """A raftlog Export of one chunk."""

    def __init__(self, applied_index: int, content: bytes) -> None:
        self.applied_index = applied_index
        self._content: bytes | None = content

    def next_chunk(self) -> Deferred[bytes | None]:
        content, self._content = self._content, None
        return succeed(content)

    def close(self) -> Deferred[None]:
        return succeed(None)


class _Import:
    """A raftlog Import, in memory until it is complete."""

    def __init__(self, keep: Callable[[_State], None]) -> None:
        self._keep = keep
        self._content = b""

    def write(self, chunk: bytes) -> Deferred[None]:
        self._content += chunk
        return succeed(None)

    def finish(self) -> Deferred[Any]:
        self._keep(msgspec.msgpack.decode(self._content, type=_State))
        return succeed(None)

    def abort(self) -> Deferred[None]:
        return succeed(None)
