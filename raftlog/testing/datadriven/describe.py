"""How the corpus writes down messages, entries, states and configurations, in etcd's words.

Nothing is decided here; every function returns text without a final newline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from raftlog.confchange import decode_change
from raftlog.messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfChangeSingle,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from raftlog.rawnode import Ready
from raftlog.state import Role

MESSAGE_NAMES = {
    MessageType.HUP: "MsgHup",
    MessageType.BEAT: "MsgBeat",
    MessageType.PROPOSE: "MsgProp",
    MessageType.APPEND: "MsgApp",
    MessageType.APPEND_RESPONSE: "MsgAppResp",
    MessageType.VOTE: "MsgVote",
    MessageType.VOTE_RESPONSE: "MsgVoteResp",
    MessageType.SNAPSHOT: "MsgSnap",
    MessageType.HEARTBEAT: "MsgHeartbeat",
    MessageType.HEARTBEAT_RESPONSE: "MsgHeartbeatResp",
    MessageType.UNREACHABLE: "MsgUnreachable",
    MessageType.SNAPSHOT_STATUS: "MsgSnapStatus",
    MessageType.CHECK_QUORUM: "MsgCheckQuorum",
    MessageType.TRANSFER_LEADER: "MsgTransferLeader",
    MessageType.TIMEOUT_NOW: "MsgTimeoutNow",
    MessageType.READ_INDEX: "MsgReadIndex",
    MessageType.READ_INDEX_RESPONSE: "MsgReadIndexResp",
    MessageType.PRE_VOTE: "MsgPreVote",
    MessageType.PRE_VOTE_RESPONSE: "MsgPreVoteResp",
    MessageType.STORAGE_APPEND: "MsgStorageAppend",
    MessageType.STORAGE_APPEND_RESPONSE: "MsgStorageAppendResp",
    MessageType.STORAGE_APPLY: "MsgStorageApply",
    MessageType.STORAGE_APPLY_RESPONSE: "MsgStorageApplyResp",
    MessageType.FORGET_LEADER: "MsgForgetLeader",
}
MESSAGE_TYPES = {name: message_type for message_type, name in MESSAGE_NAMES.items()}

_ENTRY_NAMES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}

_CHANGE_LETTERS = {
    ConfChangeType.ADD_VOTER: "v",
    ConfChangeType.ADD_LEARNER: "l",
    ConfChangeType.REMOVE: "r",
    ConfChangeType.UPDATE: "u",
}
_CHANGE_TYPES = {letter: change for change, letter in _CHANGE_LETTERS.items()}

_ROLE_NAMES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}

_TARGETS = {0: "None", APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread"}


def parse_changes(text: str) -> list[ConfChangeSingle]:
    """Parse `v1 l2 r3 u4`: voter, learner, remove, update. Raises ValueError that quotes what it does not know."""
    changes = []
    for token in text.split():
        change = _CHANGE_TYPES.get(token[0])
        if change is None or not token[1:].isdigit():
            raise ValueError(f"unknown input: {token}")
        changes.append(ConfChangeSingle(change, int(token[1:])))
    return changes


def describe_entry(entry: Entry) -> str:
    """Return `1/4 EntryNormal "foo"` or `1/4 EntryConfChangeV2 v2 l3`."""
    content = _quoted(entry.data) if entry.type is EntryType.NORMAL else _changes(decode_change(entry).changes)
    return f"{entry.term}/{entry.index} {_ENTRY_NAMES[entry.type]} {content}".rstrip()


def describe_entries(entries: Iterable[Entry]) -> str:
    """Return one line for each entry."""
    return "\n".join(describe_entry(entry) for entry in entries)


def _changes(steps: Iterable[ConfChangeSingle]) -> str:
    return " ".join(f"{_CHANGE_LETTERS[step.type]}{step.replica_id}" for step in steps)


def _quoted(data: bytes) -> str:
    """Return the data between double quotes, with Go's escapes for what is not printable ASCII."""
    escaped = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else _escape(byte) for byte in data)
    return f'"{escaped}"'


def _escape(byte: int) -> str:
    return "\\" + chr(byte) if byte in b'"\\' else f"\\x{byte:02x}"


def describe_message(message: Message, indent: str = "", *, with_responses: bool = True) -> str:
    """Return one line, more if there are several entries, a snapshot or responses; each begins with `indent`."""
    target, sender = (_TARGETS.get(replica, f"{replica:x}") for replica in (message.to, message.from_))
    parts = [
        f"{indent}{sender}->{target} {MESSAGE_NAMES[message.type]} Term:{message.term}"
        f" Log:{message.log_term}/{message.index}"
    ]
    if message.reject:
        parts.append(f" Rejected (Hint: {message.reject_hint})")
    if message.commit:
        parts.append(f" Commit:{message.commit}")
    if message.vote:
        parts.append(f" Vote:{message.vote}")
    if message.entries:
        parts.append(f" Entries:[{_listed(message.entries, indent)}]")
    if message.snapshot is not None and message.snapshot.index:
        parts.append(f"\n{indent}  Snapshot: {describe_snapshot(message.snapshot)}")
    if message.responses and with_responses:
        responses = "".join(f"\n{describe_message(response, indent + '  ')}" for response in message.responses)
        parts.append(f" Responses:[{responses}\n{indent}]")
    return "".join(parts)


def _listed(entries: Sequence[Entry], indent: str) -> str:
    if len(entries) == 1:
        return describe_entry(entries[0])
    return "".join(f"\n{indent}  {describe_entry(entry)}" for entry in entries) + f"\n{indent}"


def describe_hard_state(state: HardState) -> str:
    """Return `Term:1 Vote:1 Commit:3`, without Vote if there is none."""
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def describe_snapshot(snapshot: Snapshot) -> str:
    """Return a snapshot's place and configuration, not its data."""
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{_conf_state(snapshot.conf_state)}"


def _conf_state(state: ConfState) -> str:
    return (
        f"Voters:{_ids(state.voters)} VotersOutgoing:{_ids(state.voters_outgoing)} "
        f"Learners:{_ids(state.learners)} LearnersNext:{_ids(state.learners_next)} "
        f"AutoLeave:{str(state.auto_leave).lower()}"
    )


def _ids(ids: Iterable[int]) -> str:
    return "[" + " ".join(str(replica) for replica in ids) + "]"


def describe_role(role: Role) -> str:
    """Return a role in etcd's words."""
    return _ROLE_NAMES[role]


def describe_ready(ready: Ready) -> str:
    """Return the sections of a Ready that hold anything, below a heading that says whether it must be synced."""
    sections = list(_sections(ready))
    if not sections:
        return "<empty Ready>"
    return "\n".join((f"Ready MustSync={str(ready.must_sync).lower()}:", *sections))


def _sections(ready: Ready) -> Iterator[str]:
    if ready.soft_state is not None:
        yield f"Lead:{ready.soft_state.leader_id} State:{describe_role(ready.soft_state.role)}"
    if ready.hard_state is not None:
        yield f"HardState {describe_hard_state(ready.hard_state)}"
    if ready.entries:
        yield f"Entries:\n{describe_entries(ready.entries)}"
    if ready.snapshot is not None:
        yield f"Snapshot {describe_snapshot(ready.snapshot)}"
    if ready.committed_entries:
        yield f"CommittedEntries:\n{describe_entries(ready.committed_entries)}"
    if ready.messages:
        yield "Messages:"
        yield from map(describe_message, ready.messages)
