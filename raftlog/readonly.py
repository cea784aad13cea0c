"""The leader's side of ReadIndex: which reads wait for which heartbeat's quorum (thesis §6.4)."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.messages import Message


class _Pending:
    """A read context on its way: the request, the commit index it may read at, who confirmed the leader, since when."""

    __slots__ = ("answered", "confirmed", "index", "request", "tick")

    def __init__(self, request: Message, index: int, confirmed: set[int], tick: int) -> None:
        self.request = request
        self.index = index
        self.confirmed = confirmed
        self.tick = tick
        self.answered = False


class ReadOnly:
    """Read contexts in the order of their arrival."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[bytes, _Pending] = {}

    def add(self, request: Message, index: int, confirmed: set[int], tick: int) -> None:
        """Remember a request of `tick` that may read at `index`, and who confirms it; a known one is left as it is."""
        self._pending.setdefault(request.context, _Pending(request, index, confirmed, tick))

    def acknowledge(
        self, replica_id: int, context: bytes, is_quorum: Callable[[set[int]], bool]
    ) -> list[tuple[Message, int]]:
        """Count a replica's answer to a heartbeat with `context`, which confirms that and all before it.

        Return those that a quorum confirmed now, as (request, index) in order. They stay known as long as one before
        them waits, for later answers to their heartbeats count for that one. An unknown context confirms nothing.
        """
        if context not in self._pending:
            return []
        done = []
        for known, pending in self._pending.items():
            if not pending.answered:
                pending.confirmed.add(replica_id)
                if is_quorum(pending.confirmed):
                    pending.answered = True
                    done.append((pending.request, pending.index))
            if known == context:
                break
        while self._pending and next(iter(self._pending.values())).answered:
            del self._pending[next(iter(self._pending))]
        return done

    def waits_since(self, tick: int) -> bool:
        """Return whether a request of that tick, or of one before it, waits."""
        oldest = next(iter(self._pending.values()), None)
        return oldest is not None and oldest.tick <= tick

    def last_context(self) -> bytes:
        """Return the newest context, empty if none waits: heartbeats that are due carry it."""
        return next(reversed(self._pending), b"")
