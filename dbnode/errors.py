"""The errors of both HTTP contracts: a stable code, an HTTP status, a message that names the value and what is right.

The caller's mistakes are 4xx, the world's faults 503 and 504; our own bugs are not here, they are exceptions of
other kinds and become a 500 with a traceback in the log.
"""

from __future__ import annotations

from typing import Any, Literal

#: Whether a failed change was stored: not at all, in some shards, or nobody can say (RAFT_RULES 41).
WasApplied = Literal["no", "partial", "unknown"]


class ApiError(Exception):
    """A failure that a client is told about.

    `code` is the stable word, `text` the message without its `<Error> ` prefix, `status` the HTTP status (RFC 9110
    §15), `extra` further fields of the JSON body, `retry_after_seconds` becomes the Retry-After header.
    """

    def __init__(
        self,
        code: str,
        text: str,
        *,
        status: int = 400,
        applied: WasApplied | None = None,
        retry_after_seconds: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status
        self.applied = applied
        self.retry_after_seconds = retry_after_seconds
        self.extra = dict(extra or {})

    def body(self) -> dict[str, Any]:
        """Return the JSON object that HTTP_API promises for this failure."""
        out: dict[str, Any] = {"status": "failure", "code": self.code, "message": f"<Error> {self.text}"}
        if self.applied is not None:
            out["applied"] = self.applied
        return {**out, **self.extra}
