"""One core by itself, for tests that look at a single step of it."""

from __future__ import annotations

import random

from raftlog.messages import APPEND_THREAD, ConfState, HardState, Message
from raftlog.rawnode import RawNode
from raftlog.testing.network import config, log_of

THREE = ConfState(voters=(1, 2, 3))


def replica(*, term: int = 0, vote: int = 0, **settings: object) -> RawNode:
    """Return replica 1 of three with an empty log, in a term."""
    log = log_of(THREE)
    log.hard_state = HardState(term, vote)
    return RawNode(config(1, **settings), log, random.Random(1))


def written(raw: RawNode) -> Message:
    """Return the storage append of the next Ready."""
    (append,) = [message for message in raw.ready().messages if message.to == APPEND_THREAD]
    return append
