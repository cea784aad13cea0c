"""Where the replies to a frame's requests go."""

from __future__ import annotations

from typing import Any, Protocol


class ReplyPath(Protocol):
    """The connection that brought the requests."""

    def send(self, item: Any) -> bool:
        """Queue a reply; False if it was dropped."""
