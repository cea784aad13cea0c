"""Dialogues with a cluster of cores: every message, every Ready, delivered and handled when the case says so.

Each directive is a method, `do_` and its name; what it says goes into the transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftlog.confchange import ConfChangeError, encode_change
from raftlog.messages import (
    LOCAL_TARGETS,
    ConfChange,
    ConfChangeTransition,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
    MessageType,
    Snapshot,
)
from raftlog.state import Config, ProposalDropped
from raftlog.testing.datadriven.cases import Case, Directive
from raftlog.testing.datadriven.cluster import Cluster, Node
from raftlog.testing.datadriven.confchange import describe_progress
from raftlog.testing.datadriven.describe import (
    MESSAGE_TYPES,
    describe_entries,
    describe_message,
    describe_ready,
    describe_role,
    parse_changes,
)
from raftlog.testing.datadriven.transcript import Transcript

ELECTION_TICKS = 3
HEARTBEAT_TICKS = 1

#: More bytes or messages than any case has.
_NO_LIMIT = 1 << 62

#: The log of a node that starts from a snapshot begins in this term.
BOOTSTRAP_TERM = 1

_TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.IMPLICIT,
    "explicit": ConfChangeTransition.EXPLICIT,
}

#: What etcd reports of a response from a node outside the configuration; our core ignores it without a word.
_UNKNOWN_PEER = "raft: cannot step as peer not found"
_RESPONSES = frozenset(
    (
        MessageType.APPEND_RESPONSE,
        MessageType.VOTE_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
    )
)


class InteractionDialogue:
    """Answers the cases of one file with one cluster, which is empty at first."""

    def __init__(self) -> None:
        self._cluster = Cluster()
        self._out = Transcript()

    def answer(self, case: Case) -> str:
        """Return what is to be seen while the directive is carried out, "ok" if nothing is."""
        do: Callable[[Directive, str], None] | None = getattr(self, "do_" + case.directive.name.replace("-", "_"), None)
        if do is None:
            return f"unknown directive {case.directive.name}"
        try:
            do(case.directive, case.input)
        except ProposalDropped:
            self._out.complain("raft proposal dropped")
        except (ConfChangeError, ValueError) as error:
            self._out.complain(str(error))
        return self._out.finish()

    def _nodes(self, directive: Directive) -> list[Node]:
        return [self._cluster.node(int(word)) for word in directive.words]

    def _node(self, directive: Directive) -> Node:
        return self._cluster.node(int(directive.words[0]))

    # ---- the cluster ------------------------------------------------------------------------------------------

    def do_add_nodes(self, directive: Directive, given: str) -> None:
        """Add nodes, empty or with a log that begins behind a snapshot at `index`."""
        conf_state = ConfState(voters=directive.numbers("voters"), learners=directive.numbers("learners"))
        index = int(directive.option("index", "0"))
        content = directive.option("content").encode()
        start = Snapshot(index, BOOTSTRAP_TERM, conf_state, content) if index else Snapshot()
        if index < 2 and (conf_state != ConfState() or content):
            raise ValueError("index must be specified as > 1 due to bootstrap")
        for _ in range(int(directive.words[0])):
            config = _config(len(self._cluster.nodes) + 1, index, directive)
            self._cluster.nodes.append(Node(config, start))

    def do_log_level(self, directive: Directive, given: str) -> None:
        """Say less: at "none" nothing but errors. The other levels concern log lines, which do not count."""
        self._out.level = directive.words[0].lower()

    def do_compact(self, directive: Directive, given: str) -> None:
        """Drop a node's log up to an index and show what is left."""
        node = self._node(directive)
        node.log.compact(int(directive.words[1]), node.raw.conf_state())
        self._show_log(node)

    def do_raft_log(self, directive: Directive, given: str) -> None:
        """Show what a node has stored."""
        self._show_log(self._node(directive))

    def _show_log(self, node: Node) -> None:
        first, last = node.log.first_index(), node.log.last_index()
        if last < first:
            self._out.say(f"log is empty: first index={first}, last index={last}")
        else:
            self._out.say(describe_entries(node.log.entries(first, last + 1, _NO_LIMIT)))

    def do_raft_state(self, directive: Directive, given: str) -> None:
        """Show every node's role, as the node itself sees it."""
        for node in self._cluster.nodes:
            raft = node.raw.raft
            suffrage = "Voter" if node.id in raft.tracker.membership.voters else "Non-Voter"
            self._out.say(f"{node.id}: {describe_role(raft.role)} ({suffrage}) Term:{raft.term} Lead:{raft.leader_id}")

    def do_status(self, directive: Directive, given: str) -> None:
        """Show a leader's progress of everybody; nothing if the node does not lead."""
        raft = self._node(directive).raw.raft
        if raft.leader_id == raft.id:
            self._out.say(describe_progress(raft.tracker))

    # ---- what a core is asked to do ---------------------------------------------------------------------------

    def do_campaign(self, directive: Directive, given: str) -> None:
        """Start an election."""
        self._node(directive).raw.campaign()

    def do_propose(self, directive: Directive, given: str) -> None:
        """Propose a text."""
        self._node(directive).raw.propose(directive.words[1].encode())

    def do_propose_conf_change(self, directive: Directive, given: str) -> None:
        """Propose a change of membership past the checks of RawNode, so that the log shows what the core does."""
        steps = parse_changes(given)
        transition = directive.option("transition", "auto")
        if transition not in _TRANSITIONS:
            raise ValueError(f"unknown transition {transition}")
        change: ConfChange | ConfChangeV2 = ConfChangeV2(_TRANSITIONS[transition], tuple(steps))
        if directive.flag("v1"):
            if len(steps) != 1 or transition != "auto":
                raise ValueError("v1 conf change can only have one operation and no transition")
            change = ConfChange(steps[0].type, steps[0].replica_id)
        entry_type, data = encode_change(change)
        raft = self._node(directive).raw.raft
        raft.step(Message(MessageType.PROPOSE, from_=raft.id, entries=(Entry(0, 0, data, entry_type),)))

    def do_transfer_leadership(self, directive: Directive, given: str) -> None:
        """Ask a leader to hand over."""
        (leader,), (to,) = directive.numbers("from"), directive.numbers("to")
        self._cluster.node(leader).raw.transfer_leader(to)

    def do_forget_leader(self, directive: Directive, given: str) -> None:
        """Let a node forget whom it follows."""
        self._node(directive).raw.forget_leader()

    def do_report_unreachable(self, directive: Directive, given: str) -> None:
        """Tell the first node that the second can't be reached."""
        node, other = self._nodes(directive)
        node.raw.report_unreachable(other.id)

    def do_send_snapshot(self, directive: Directive, given: str) -> None:
        """Send the first node's newest snapshot to the second, unasked."""
        sender, to = self._nodes(directive)
        raft = sender.raw.raft
        message = Message(MessageType.SNAPSHOT, to.id, sender.id, raft.term, snapshot=sender.log.snapshot())
        self._cluster.in_flight.append(message)
        self._out.say(describe_message(message))

    # ---- time -------------------------------------------------------------------------------------------------

    def do_tick_election(self, directive: Directive, given: str) -> None:
        """Let an election timeout pass on a node."""
        self._tick(self._node(directive), ELECTION_TICKS)

    def do_tick_heartbeat(self, directive: Directive, given: str) -> None:
        """Let a heartbeat interval pass on a node."""
        self._tick(self._node(directive), HEARTBEAT_TICKS)

    def _tick(self, node: Node, ticks: int) -> None:
        for _ in range(ticks):
            node.raw.tick()

    def do_set_randomized_election_timeout(self, directive: Directive, given: str) -> None:
        """Set a node's election timeout, until it draws the next."""
        self._node(directive).raw.raft.randomized_election_ticks = int(directive.option("timeout"))

    # ---- Readies, storage, messages ---------------------------------------------------------------------------

    def do_process_ready(self, directive: Directive, given: str) -> None:
        """Handle one Ready of each node."""
        self._each(self._nodes(directive), "handling Ready", self._handle_ready)

    def do_process_append_thread(self, directive: Directive, given: str) -> None:
        """Do the oldest storage append of each node."""
        self._each(self._nodes(directive), "processing append thread", self._do_append_work)

    def do_process_apply_thread(self, directive: Directive, given: str) -> None:
        """Apply the oldest batch of entries of each node."""
        self._each(self._nodes(directive), "processing apply thread", self._do_apply_work)

    def _each(self, nodes: Sequence[Node], action: str, act: Callable[[Node], None]) -> None:
        if len(nodes) == 1:
            act(nodes[0])
            return
        for node in nodes:
            with self._out.within(f"> {node.id} {action}"):
                act(node)

    def _handle_ready(self, node: Node) -> None:
        ready = node.handle_ready()
        self._out.say(describe_ready(ready))
        self._cluster.in_flight += [message for message in ready.messages if message.to not in LOCAL_TARGETS]

    def _do_append_work(self, node: Node) -> None:
        if node.append_work:
            self._show_work(node.do_append_work())
        else:
            self._out.say("no append work to perform")

    def _do_apply_work(self, node: Node) -> None:
        if node.apply_work:
            self._show_work(node.do_apply_work())
        else:
            self._out.say("no apply work to perform")

    def _show_work(self, done: Message) -> None:
        self._out.say("Processing:")
        self._out.say(describe_message(done, with_responses=False))
        self._out.say("Responses:")
        for response in done.responses:
            self._out.say(describe_message(response))
        self._cluster.in_flight += done.responses

    def do_deliver_msgs(self, directive: Directive, given: str) -> None:
        """Deliver the messages to some nodes and drop those to others."""
        name = directive.option("type")
        message_type = MESSAGE_TYPES[name] if name else None
        delivered = [self._deliver(int(word), message_type) for word in directive.words]
        dropped = [self._drop(node_id, message_type) for node_id in directive.numbers("drop")]
        if not any((*delivered, *dropped)):
            self._out.say("no messages")

    def _deliver(self, node_id: int, message_type: MessageType | None = None) -> int:
        messages = self._cluster.take(node_id, message_type, dropping=False)
        for message in messages:
            self._out.say(describe_message(message))
            raw = self._cluster.node(node_id).raw
            if message.type in _RESPONSES and message.from_ not in raw.raft.tracker.progress:
                self._out.say(_UNKNOWN_PEER)
            raw.step(message)
        return len(messages)

    def _drop(self, node_id: int, message_type: MessageType | None) -> int:
        messages = self._cluster.take(node_id, message_type, dropping=True)
        for message in messages:
            self._out.say(f"dropped: {describe_message(message)}")
        return len(messages)

    def do_stabilize(self, directive: Directive, given: str) -> None:
        """Go round the nodes (all, or those named) until nothing moves any more."""
        nodes = self._nodes(directive) or self._cluster.nodes
        with self._out.at_level(directive.option("log-level", self._out.level)):
            while self._go_round(nodes):
                pass

    def _go_round(self, nodes: Sequence[Node]) -> bool:
        moved = False
        for node in nodes:
            if node.raw.has_ready():
                moved = True
                with self._out.within(f"> {node.id} handling Ready"):
                    self._handle_ready(node)
        for node in nodes:
            if self._cluster.waits_for(node.id):
                moved = True
                with self._out.within(f"> {node.id} receiving messages"):
                    self._deliver(node.id)
        for node in nodes:
            if node.append_work:
                moved = True
                with self._out.within(f"> {node.id} processing append thread"):
                    while node.append_work:
                        self._do_append_work(node)
        for node in nodes:
            if node.apply_work:
                moved = True
                with self._out.within(f"> {node.id} processing apply thread"):
                    while node.apply_work:
                        self._do_apply_work(node)
        return moved


def _config(replica_id: int, index: int, directive: Directive) -> Config:
    return Config(
        replica_id=replica_id,
        election_ticks=ELECTION_TICKS,
        heartbeat_ticks=HEARTBEAT_TICKS,
        max_size_per_message=_NO_LIMIT,
        max_committed_size_per_ready=int(directive.option("max-committed-size-per-ready", str(_NO_LIMIT))),
        max_uncommitted_size=_NO_LIMIT,
        max_inflight_messages=int(directive.option("inflight", str(_NO_LIMIT))),
        applied=index,
        check_quorum=directive.flag("checkquorum"),
        pre_vote=directive.flag("prevote"),
        step_down_on_removal=directive.flag("step-down-on-removal"),
        async_storage_writes=directive.flag("async-storage-writes"),
        lease_read_only=directive.option("read-only") == "lease-based",
        disable_conf_change_validation=directive.flag("disable-conf-change-validation"),
    )
