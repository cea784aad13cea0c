"""Looks at a log without changing it: what is in each segment, whether it is whole, and what damage means.

For operators: `python -m raftlog.wal DIR`. Nothing is ever repaired here. What a crash leaves needs no repair, and what
is beyond that cannot be put right without losing what was promised; the replica is then replaced from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raftlog.messages import ConfState, Entry, HardState
from raftlog.wal.directory import Directory, segment_name, segment_numbers
from raftlog.wal.errors import InvalidRecord, WalDamaged, WalError
from raftlog.wal.framing import FORMAT_VERSION, SegmentHeader
from raftlog.wal.image import Images
from raftlog.wal.records import (
    AnyRecord,
    Appended,
    Compacted,
    Created,
    GroupRestated,
    Removed,
    SegmentOpened,
    SnapshotIncoming,
    SnapshotInstalled,
)
from raftlog.wal.recovery import decode_round, read_headers, recover, segment_rounds

WHAT_DAMAGE_MEANS = """\
Something that was acknowledged cannot be read any more: the disk, or someone, changed a file of this log. The server
will not start with it, because a replica that has forgotten its vote or its entries can make the others lose data.
Keep a copy of this directory if you want to know more. Then give the server an empty data directory: its replicas get
new ids and are filled from the other servers. Do not delete or cut single files."""

WHAT_ELSE_MEANS = "The log cannot be read by this program. It may still be good: do not delete anything."


@dataclass(frozen=True, slots=True)
class Inspection:
    """What there is to say about a log, and whether a server would start with it."""

    lines: list[str]
    whole: bool


def inspect(directory: Directory, *, list_records: bool = False) -> Inspection:
    """Describe a log: its segments, its groups if it is whole, and its damage if it is not."""
    lines: list[str] = []
    try:
        numbers = segment_numbers(directory.names())
        headers = read_headers(directory, numbers)
        for header, following in zip(headers, [*headers[1:], None], strict=False):
            lines += _describe_segment(directory, header, following, list_records)
        recovered = recover(directory)
        for record in recovered.tail:
            recovered.images.apply(record, numbers[-1])
        recovered.images.check_complete()
    except WalDamaged as error:
        return Inspection([*lines, str(error), "", WHAT_DAMAGE_MEANS], whole=False)
    except (WalError, InvalidRecord) as error:
        return Inspection([*lines, str(error), "", WHAT_ELSE_MEANS], whole=False)
    lines += _describe_images(recovered.images)
    lines.append("whole" if numbers else "no segments: this is an empty log, or not the directory of one")
    return Inspection(lines, whole=True)


def _describe_segment(
    directory: Directory, header: SegmentHeader, following: SegmentHeader | None, list_records: bool
) -> list[str]:
    name = segment_name(header.number)
    rounds = list(segment_rounds(directory, header, following))
    records = sum(len(found.payloads) for found in rounds)
    end = rounds[-1].end if rounds else 0
    lines = [
        f"{name}: format {FORMAT_VERSION}, {len(rounds)} rounds from number {header.first_round} on,"
        f" {records} records, {end} of {header.length} bytes used"
    ]
    if list_records:
        for found in rounds:
            for offset, record in decode_round(name, found):
                lines.append(f"  byte {offset}, round {found.number}: {_describe_record(record)}")
    return lines


def _describe_record(record: AnyRecord) -> str:
    what = f"group {record.group_id}" if not isinstance(record, SegmentOpened) else "segment"
    match record:
        case Created():
            return f"{what} created as replica {record.replica_id}, {_describe_configuration(record.conf_state)}"
        case Appended():
            return f"{what}: {_describe_hard_state(record.hard_state)}, {_describe_entries(record.entries)}"
        case Compacted():
            return f"{what} compacted to index {record.index} of term {record.term}"
        case SnapshotInstalled():
            return f"{what}: snapshot at {record.snapshot.index}, {_describe_hard_state(record.hard_state)}"
        case SnapshotIncoming():
            return f"{what}: about to install a snapshot at {record.snapshot.index}"
        case Removed():
            return f"{what}: replica {record.replica_id} destroyed"
        case SegmentOpened():
            return f"{what} opened with {record.groups} groups and {len(record.tombstones)} destroyed replicas"
        case GroupRestated():
            span = f"entries {record.snapshot.index + 1} to {record.last_index} ({len(record.entries)} of them here)"
            return f"{what} restated as replica {record.replica_id}, {span}"


def _describe_images(images: Images) -> Iterator[str]:
    for group in sorted(images.groups.values(), key=lambda group: group.group_id):
        pinned = "" if group.pinned_segment is None else f" from {segment_name(group.pinned_segment)} on"
        yield (
            f"group {group.group_id}: replica {group.replica_id}, {_describe_hard_state(group.hard_state)},"
            f" {_describe_configuration(group.snapshot.conf_state)} at index {group.snapshot.index},"
            f" {_describe_entries(group.entries)}, {group.bytes} bytes{pinned}"
        )
    if images.tombstones:
        yield f"destroyed replicas: {', '.join(map(str, sorted(images.tombstones)))}"


def _describe_hard_state(hard_state: HardState | None) -> str:
    if hard_state is None:
        return "hard state as before"
    return f"term {hard_state.term}, vote {hard_state.vote or 'none'}, commit {hard_state.commit}"


def _describe_entries(entries: Sequence[Entry]) -> str:
    if not entries:
        return "no entries"
    first, last = entries[0], entries[-1]
    return f"entries {first.index} (term {first.term}) to {last.index} (term {last.term})"


def _describe_configuration(conf_state: ConfState) -> str:
    parts = [f"voters {list(conf_state.voters)}"]
    if conf_state.voters_outgoing:
        parts.append(f"outgoing {list(conf_state.voters_outgoing)}")
    if conf_state.learners:
        parts.append(f"learners {list(conf_state.learners)}")
    return " ".join(parts)
