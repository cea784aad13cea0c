"""How fast the Raft core is: `python -m benchmarks.core_bench [--seconds N] [--bytes N] [--runs N]`.

A group of three in one process, driven as by its driver but without disk, links or state machine: what a proposal
costs in Python for leader and followers together. Before each Ready of the leader 1, 10 or 100 proposals are made,
then all messages are delivered until nothing moves; the logs are compacted now and then, as a live one's are. Medians
over the runs.
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from raftlog.messages import APPEND_THREAD, APPLY_THREAD, ConfState, HardState, Message, Snapshot
from raftlog.rawnode import RawNode
from raftlog.state import Config
from raftlog.storage import MemoryLog

PROPOSALS_PER_READY = (1, 10, 100)
VOTERS = ConfState((1, 2, 3))
#: The logs are compacted once they hold so many entries.
COMPACT_EVERY = 4096


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement."""

    proposals_per_second: float
    readies_per_second: float


class Replica:
    """A core whose disk is memory and whose state machine forgets."""

    def __init__(self, replica_id: int) -> None:
        self.log = MemoryLog.recovered(HardState(), Snapshot(conf_state=VOTERS), (), 0)
        config = Config(
            replica_id=replica_id,
            election_ticks=12,
            heartbeat_ticks=3,
            max_size_per_message=1 << 20,
            max_committed_size_per_ready=4 << 20,
            max_uncommitted_size=64 << 20,
            max_inflight_messages=64,
            max_inflight_bytes=16 << 20,
        )
        self.raw = RawNode(config, self.log, random.Random(replica_id))
        self.applied_index = 0
        self.readies_count = 0

    def handle_readies(self, outgoing: list[Message]) -> None:
        """Handle Readies until there is none; add what leaves for others to `outgoing`."""
        raw = self.raw
        while raw.has_ready():
            self.readies_count += 1
            for message in raw.ready().messages:
                if message.to == APPEND_THREAD:
                    self.log.store(message)
                elif message.to == APPLY_THREAD:
                    self.applied_index = message.entries[-1].index
                else:
                    outgoing.append(message)
                for response in message.responses:
                    if response.to == raw.raft.id:
                        raw.step(response)
                    else:
                        outgoing.append(response)

    def compact(self) -> None:
        """Drop the log up to what is applied, if it has grown long."""
        if self.log.last_index() - self.log.first_index() >= COMPACT_EVERY:
            self.log.compact(self.applied_index, VOTERS)


class Group:
    """Three replicas that hear each other at once."""

    def __init__(self) -> None:
        self.replicas = {replica_id: Replica(replica_id) for replica_id in VOTERS.voters}
        self.leader = self.replicas[1]

    def settle(self) -> None:
        """Handle Readies and deliver messages until nothing moves."""
        replicas = self.replicas
        arriving: list[Message] = []
        while True:
            for replica in replicas.values():
                replica.handle_readies(arriving)
            if not arriving:
                return
            for message in arriving:
                replicas[message.to].raw.step(message)
            arriving = []

    def compact(self) -> None:
        """Keep the logs as long as live ones."""
        for replica in self.replicas.values():
            replica.compact()


def measure(proposals_per_ready: int, seconds: float, data: bytes) -> Figures:
    """Propose for some seconds."""
    group = Group()
    group.leader.raw.campaign()
    group.settle()
    propose = group.leader.raw.propose
    first_index = group.leader.applied_index
    begun = perf_counter()
    while perf_counter() - begun < seconds:
        for _ in range(proposals_per_ready):
            propose(data)
        group.settle()
        group.compact()
    elapsed = perf_counter() - begun
    return Figures(
        proposals_per_second=(group.leader.applied_index - first_index) / elapsed,
        readies_per_second=sum(replica.readies_count for replica in group.replicas.values()) / elapsed,
    )


def main() -> None:
    """Measure as the arguments say and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core_bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--bytes", type=int, default=120, help="data of a proposal")
    parser.add_argument("--runs", type=int, default=3, help="measurements of each kind, of which the median is shown")
    options = parser.parse_args()
    table = Table("proposals per Ready", "proposals/s", "µs/proposal", "Readies/s", box=SIMPLE_HEAD)
    data = os.urandom(options.bytes)
    for proposals_per_ready in PROPOSALS_PER_READY:
        runs = [measure(proposals_per_ready, options.seconds, data) for _ in range(options.runs)]
        proposals_per_second = median(run.proposals_per_second for run in runs)
        table.add_row(
            str(proposals_per_ready),
            f"{proposals_per_second:,.0f}",
            f"{1e6 / proposals_per_second:.1f}",
            f"{median(run.readies_per_second for run in runs):,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
