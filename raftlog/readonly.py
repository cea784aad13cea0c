"""The leader's side of ReadIndex: which reads wait for which heartbeat's quorum (thesis §6.4)."""

from __future__ import annotations

from raftlog.messages import Message


class _Pending:
    """A read context on its way: the request, the commit index it may read at, and who confirmed the leader."""

    __slots__ = ("acks", "index", "request")

    def __init__(self, request: Message, index: int) -> None:
        self.request = request
        self.index = index
        self.acks: set[int] = set()


class ReadOnly:
    """Read contexts in the order of their arrival; a confirmed one confirms all before it."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[bytes, _Pending] = {}

    def add(self, request: Message, index: int) -> None:
        """Remember a request that may read at `index`; a context that is known already is left as it is."""
        self._pending.setdefault(request.context, _Pending(request, index))

    def acknowledge(self, replica_id: int, context: bytes) -> set[int]:
        """Count a replica's confirmation and return all that confirmed `context`; empty if it is not known."""
        pending = self._pending.get(context)
        if pending is None:
            return set()
        pending.acks.add(replica_id)
        return pending.acks

    def advance(self, context: bytes) -> list[tuple[Message, int]]:
        """Take out `context` and all before it, as (request, index) in order."""
        if context not in self._pending:
            return []
        done = []
        for known in list(self._pending):
            pending = self._pending.pop(known)
            done.append((pending.request, pending.index))
            if known == context:
                break
        return done

    def last_context(self) -> bytes:
        """Return the newest context that waits, empty if none does: ordinary heartbeats carry it."""
        return next(reversed(self._pending), b"")
