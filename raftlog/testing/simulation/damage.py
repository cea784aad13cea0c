"""Bits that flip in a log while nobody has it open.

Only where the log promises to notice: a flip within the last synced round looks like a write that a crash cut short
(see raftlog.wal), so no log can tell it, and it is spared here.
"""

from __future__ import annotations

import random

from raftlog.testing.disk import MemoryDisk
from raftlog.wal.directory import segment_name
from raftlog.wal.recovery import recover


def flip_some_bit(disk: MemoryDisk, rng: random.Random) -> None:
    """Flip one bit anywhere in the segments but in the last round that was synced or what lies behind it."""
    found = recover(disk)
    places = [(segment_name(number), len(disk.content(segment_name(number)))) for number in found.segments[:-1]]
    places.append((segment_name(found.segments[-1]), found.end))
    name, length = rng.choice(places)
    disk.flip(name, rng.randrange(8 * length))
