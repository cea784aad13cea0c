"""What idle groups cost: `python -m benchmarks.idle_bench [--groups N] [--seconds N]`.

Three processes with a replica of every group each: real driver, log and links, and a state machine that holds
nothing. Printed per process: CPU while nothing happens, frames per second and pair, and the resident memory that a
replica adds. Leaders are wherever elections put them.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from subprocess import PIPE, Popen
from typing import Any

import msgspec
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.failure import Failure

from raftlog.link import Connection, Endpoint, Identity
from raftlog.link.links import Links
from raftlog.messages import ConfState, Entry, RaftItem
from raftlog.node import Node
from raftlog.wal import WalError, open_wal

SERVERS = ("A", "B", "C")
#: From the creation of the groups until they have elected leaders and fallen asleep.
SETTLE_SECONDS = 12.0

encode_items = msgspec.msgpack.Encoder().encode
decode_items: Any = msgspec.msgpack.Decoder(list[RaftItem]).decode


class Nothing:
    """A state machine that only counts."""

    __slots__ = ("applied_index",)

    def __init__(self) -> None:
        self.applied_index = 0

    def apply(self, entries: Sequence[Entry]) -> list[None]:
        """Move on."""
        self.applied_index = entries[-1].index
        return [None] * len(entries)

    def make_durable(self) -> defer.Deferred[int]:
        """Answer at once."""
        return defer.succeed(self.applied_index)

    def export(self, chunk_bytes: int) -> defer.Deferred[Any]:
        """Refuse: nothing falls behind here."""
        return defer.fail(RuntimeError("nothing to export"))

    def begin_import(self) -> Any:
        """Refuse, as above."""
        raise RuntimeError("nothing to import")


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def cpu_seconds() -> float:
    """Return the CPU time that this process has used."""
    return int(Path("/proc/self/schedstat").read_text().split()[0]) / 1e9


def die(reason: WalError | Failure) -> None:
    """End the process."""
    sys.exit(f"ended: {reason}")


async def serve(reactor: Any, name: str, groups: int, seconds: float, directory: str) -> None:
    """Run one of the processes: print the port, read the others', and print what was measured."""
    node: Node

    def receive(_: Connection, items: list[RaftItem]) -> None:
        node.receive(items)

    identity = Identity("benchmark", "server", name, "one")
    links = Links(reactor, identity, b"no secret", encode_items, decode_items, receive, rng=Random(name))
    wal, recovered = open_wal(f"{directory}/{name}", call_from_thread=reactor.callFromThread, on_fatal=die)
    node = Node(reactor, wal, recovered, links, Random(name), fatal=die)
    port = await links.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    host = port.getHost()
    assert isinstance(host, IPv4Address)
    print(host.port, flush=True)
    for server, other in zip(SERVERS, sys.stdin.readline().split(), strict=True):
        if server != name:
            links.set_peer(server, Endpoint("127.0.0.1", int(other)))
    links.startService()
    node.startService()
    await task.deferLater(reactor, 1.0)
    gc.collect()
    before = resident_bytes()
    for group_id in range(1, groups + 1):
        peers = {group_id * 3 + place: server for place, server in enumerate(SERVERS)}
        replica_id = group_id * 3 + SERVERS.index(name)
        await node.create_group(group_id, replica_id, ConfState(voters=tuple(peers)), peers, Nothing())
    await task.deferLater(reactor, SETTLE_SECONDS)
    gc.collect()
    added = resident_bytes() - before
    frames, cpu = links.counters.frames_sent, cpu_seconds()
    await task.deferLater(reactor, seconds)
    leads = sum(node.status(group_id).role == "leader" for group_id in node.group_ids)
    print(
        f"{name}: leads {leads}, cpu {(cpu_seconds() - cpu) / seconds:.2%} of a core, "
        f"{(links.counters.frames_sent - frames) / seconds / 2:.0f} frames/s to each other server, "
        f"{added / groups / 1000:.1f} kB per replica",
        flush=True,
    )
    # The others may still be measuring.
    await task.deferLater(reactor, 5.0)
    await defer.maybeDeferred(node.stopService)
    await links.stopService()
    wal.close()


def main() -> None:
    """Start the three processes and show what they print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task.react(
            lambda reactor: defer.ensureDeferred(
                serve(reactor, options.child, options.groups, options.seconds, options.directory)
            )
        )
    directory = tempfile.mkdtemp(prefix="shardlb-idle-")
    base = [sys.executable, "-m", "benchmarks.idle_bench", "--groups", str(options.groups)]
    base += ["--seconds", str(options.seconds), "--directory", directory]
    children = [Popen([*base, "--child", name], stdin=PIPE, stdout=PIPE, text=True) for name in SERVERS]
    try:
        ports = " ".join(child.stdout.readline().strip() for child in children if child.stdout)
        for child in children:
            assert child.stdin is not None
            child.stdin.write(ports + "\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            print(child.stdout.readline().strip())
    finally:
        for child in children:
            child.terminate()
            child.wait()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
