"""What an operator may choose about the log. Sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a log. The defaults suit a server with tens to thousands of groups."""

    #: Length of a segment file. Larger ones are rarer to open (1 ms); smaller ones give space back sooner.
    segment_bytes: int = 64 * MEBIBYTE
    #: Staged and not yet acknowledged; beyond it submit raises WalOverloaded. Bounds memory when the disk stalls.
    queue_bytes_max: int = 64 * MEBIBYTE
    #: A group whose oldest live entry lies further back than this many segments is rewritten forward, if it is small.
    segments_kept: int = 4
    #: What counts as small. Larger groups are left to their owner to compact, see Wal.pinning_groups.
    rewrite_bytes_max: int = MEBIBYTE
    #: With less than this free, Wal.free_bytes_low is true: four segments, for what must still be written then.
    free_bytes_min: int = 256 * MEBIBYTE
