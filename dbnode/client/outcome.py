"""What a client is told when a request to a shard did not succeed (RAFT_RULES 41: there are three answers)."""

from __future__ import annotations


class RequestFailed(Exception):
    """A request failed. `code` is one of dbnode.wire's codes of Refused, `text` says more."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class NotApplied(RequestFailed):
    """A change that was certainly not applied and never will be; it may be tried again."""


class OutcomeUnknown(RequestFailed):
    """A change that may have been applied, or may still be: neither yes nor no."""


class Unavailable(RequestFailed):
    """A read that no replica answered in time."""


class Unanswered(RequestFailed):
    """One request to one server got no reply. `sent`: it may have arrived there."""

    def __init__(self, code: str, text: str, *, sent: bool) -> None:
        super().__init__(code, text)
        self.sent = sent
