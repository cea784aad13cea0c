"""The catalog as a Raft group: commands are replicated before they count, and a restart forgets nothing.

The group is number 0 of the balancer's own raftlog Node, with the balancer's own write-ahead log. One balancer is a
group of one. The state lies in a file beside the log, replaced as a whole with each change and synced, so that the
log may be cut behind it; catalogs are small and change rarely, which is why this may happen in the reactor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from lbnode.catalog import Catalog, Command, FoundCluster, Refused, apply
from raftlog.errors import LostData
from raftlog.messages import ConfState, Entry, EntryType
from raftlog.node import Node
from raftlog.transfer import Export, Import

#: The catalog's group; shards' groups are counted from 1.
CATALOG_GROUP_ID = 0
#: The only balancer's replica of it.
_REPLICA_ID = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Command).decode


class _State(msgspec.Struct, frozen=True):
    """What the file holds: the catalog after the entry `applied_index`."""

    applied_index: int = 0
    catalog: Catalog = Catalog()


class CatalogMachine:
    """The state machine of the catalog's group, kept in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _State()
        self._changed: Callable[[Catalog], None] = lambda catalog: None

    def load(self) -> None:
        """Read what was kept. Raises msgspec.DecodeError or ValidationError if the file is damaged."""
        try:
            self._state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            return

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
        before = catalog = self.catalog
        results: list[Catalog | Refused] = []
        for entry in entries:
            try:
                if entry.type is EntryType.NORMAL and entry.data:
                    catalog = apply(catalog, _decode(entry.data))
                results.append(catalog)
            except Refused as refused:
                results.append(refused)
        self._keep(_State(entries[-1].index, catalog))
        if catalog != before:
            self._changed(catalog)
        return results

    def make_durable(self) -> Deferred[int]:
        """Fire with the applied index: the file is synced with each change."""
        return succeed(self.applied_index)

    def export(self, chunk_bytes: int) -> Deferred[Export]:
        """Copy the catalog, which is small, as one chunk."""
        copy: Export = _CatalogExport(self._state.applied_index, msgspec.json.encode(self._state))
        return succeed(copy)

    def begin_import(self) -> Import:
        """Begin to take another balancer's catalog in the place of this one."""
        return _CatalogImport(self._take_over)

    def _take_over(self, content: bytes) -> None:
        self._keep(msgspec.json.decode(content, type=_State))
        self._changed(self.catalog)

    def _keep(self, state: _State) -> None:
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(state)))
        self._state = state


class _CatalogExport:
    """A copy of the catalog on its way out; see raftlog.transfer.Export."""

    def __init__(self, applied_index: int, content: bytes) -> None:
        self.applied_index = applied_index
        self._chunks = [content]

    def next_chunk(self) -> Deferred[bytes | None]:
        return succeed(self._chunks.pop() if self._chunks else None)

    def close(self) -> Deferred[None]:
        return succeed(None)


class _CatalogImport:
    """A copy of the catalog on its way in; see raftlog.transfer.Import."""

    def __init__(self, take_over: Callable[[bytes], None]) -> None:
        self._take_over = take_over
        self._content = b""

    def write(self, chunk: bytes) -> Deferred[None]:
        self._content += chunk
        return succeed(None)

    def finish(self) -> Deferred[None]:
        return maybeDeferred(self._take_over, self._content)

    def abort(self) -> Deferred[None]:
        return succeed(None)


class CatalogGroup:
    """The catalog as the controller uses it, on a running Node that hosts `machine`."""

    def __init__(self, node: Node, machine: CatalogMachine, name: str) -> None:
        self._node = node
        self._machine = machine
        self._peers = {_REPLICA_ID: name}

    @property
    def catalog(self) -> Catalog:
        """The catalog as last applied here."""
        return self._machine.catalog

    async def open(self, new_cluster_id: str, timeout_seconds: float) -> None:
        """Take part in the group and wait until all that was ever acknowledged is applied.

        A catalog that never was is founded as `new_cluster_id`. Raises LostData if the log is gone but its state is
        not, raftlog.errors.Unavailable after the timeout.
        """
        node, machine = self._node, self._machine
        if CATALOG_GROUP_ID in node.recovered_ids:
            node.open_group(CATALOG_GROUP_ID, self._peers, machine)
        elif machine.applied_index:
            raise LostData("the catalog's log is gone, although its state is there")
        else:
            only = ConfState(voters=(_REPLICA_ID,))
            await node.create_group(CATALOG_GROUP_ID, _REPLICA_ID, only, self._peers, machine)
        node.campaign(CATALOG_GROUP_ID)
        await node.read_index(CATALOG_GROUP_ID, timeout_seconds)
        if not self.catalog.cluster_id:
            await self.propose(FoundCluster(new_cluster_id))

    async def propose(self, command: Command) -> Catalog:
        """Return the catalog after the command, once that is durable; raises Refused, or a raftlog GroupError."""
        proposed: Deferred[Catalog | Refused] = self._node.propose(CATALOG_GROUP_ID, _encode(command))
        result = await proposed
        if isinstance(result, Refused):
            raise result
        return result


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file by one with `content`, durably: after a crash it is the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
