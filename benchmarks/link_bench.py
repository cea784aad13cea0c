"""How fast a link is: `python -m benchmarks.link_bench [--seconds N] [--profile FILE]`.

Two processes on loopback, the real items and codec. One-way: the sender puts 1, 10 or 100 items into every reactor
turn, with at most WINDOW frames not yet acknowledged; both sides' CPU time per frame is what a frame costs. Round
trip: one request at a time, answered at once, and 100 at a time.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
from collections.abc import Callable, Coroutine
from random import Random
from statistics import median, quantiles
from subprocess import PIPE, Popen
from time import perf_counter
from typing import Any

import msgspec
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint

from dbnode.wire import Applied, LinkItem, Propose, Stored
from raftlog.link import Connection, Endpoint, Identity, Lane
from raftlog.link.links import Links

#: Frames on their way; enough to keep both sides busy, few enough to stay in the sockets' buffers.
WINDOW = 64
#: For connections to come up, and for what is on its way at the end of a measurement.
SETTLE_SECONDS = 0.3
COMMAND = b"x" * 120
#: Request ids with a meaning of their own; other requests are counted and acknowledged once per frame.
ECHO_FROM = 1 << 40

encode_items = msgspec.msgpack.Encoder().encode
decode_items: Any = msgspec.msgpack.Decoder(list[LinkItem]).decode


def make_links(reactor: Any, name: str, receive: Any) -> Links:
    """Return the links of one of the two processes."""
    identity = Identity("benchmark", "server", name, "one")
    return Links(reactor, identity, b"no secret", encode_items, decode_items, receive, rng=Random(1))


# ---- the answering process ------------------------------------------------------------------------------------


def answer(connection: Connection, items: list[Any]) -> None:
    """Acknowledge a frame, or answer each of its requests."""
    if items[0].request_id < ECHO_FROM:
        connection.send(Applied(len(items), ()))
        return
    for item in items:
        connection.send(Applied(item.request_id, (Stored(1),)))


async def serve(reactor: Any) -> None:
    """Answer until killed."""
    links = make_links(reactor, "answerer", answer)
    links.startService()
    port = await links.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    host = port.getHost()
    assert isinstance(host, IPv4Address)
    print(host.port, flush=True)
    await defer.Deferred()


def cpu_seconds(pid: str) -> float:
    """Return the CPU time that a process, or "self", has used."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


# ---- the measuring process ------------------------------------------------------------------------------------


class OneWay:
    """Puts so many items into every turn, while less than WINDOW frames are not acknowledged."""

    def __init__(self, reactor: Any, links: Links, items_per_turn: int) -> None:
        self._reactor = reactor
        self._send = links.send
        self._item = Propose(1, 7, COMMAND, 10_000)
        self._items_per_turn = items_per_turn
        self._sent = 0
        self._waiting = False
        self.stopped = False
        self.acknowledged = 0

    def turn(self) -> None:
        """Send the items of this turn and come again in the next."""
        self._waiting = self._sent - self.acknowledged >= WINDOW
        if self._waiting or self.stopped:
            return
        for _ in range(self._items_per_turn):
            self._send("answerer", Lane.DATA, self._item)
        self._sent += 1
        self._reactor.callLater(0, self.turn)

    def received(self, connection: Connection, items: list[Any]) -> None:
        """Count acknowledgements."""
        self.acknowledged += len(items)
        if self._waiting:
            self.turn()


class RoundTrips:
    """Keeps so many requests on their way, each sent when an earlier one is answered."""

    def __init__(self, links: Links) -> None:
        self._send = links.send
        self._started: dict[int, float] = {}
        self._last_id = ECHO_FROM
        self.stopped = False
        self.latencies_seconds: list[float] = []

    def ask(self) -> None:
        """Send a request."""
        self._last_id += 1
        self._started[self._last_id] = perf_counter()
        self._send("answerer", Lane.DATA, Propose(self._last_id, 7, COMMAND, 10_000))

    def received(self, connection: Connection, items: list[Any]) -> None:
        """Note the latencies, and ask again."""
        for reply in items:
            self.latencies_seconds.append(perf_counter() - self._started.pop(reply.request_id))
            if not self.stopped:
                self.ask()


class Bench:
    """Runs one measurement after the other and prints a line for each."""

    def __init__(self, reactor: Any, seconds: float, answerer_pid: int) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._answerer_pid = answerer_pid
        self._running: OneWay | RoundTrips | None = None
        self.links = make_links(reactor, "measurer", self._received)

    def _received(self, connection: Connection, items: list[Any]) -> None:
        if self._running is not None:
            self._running.received(connection, items)

    async def one_way(self, items_per_turn: int) -> None:
        """Print frames and items per second, and what a frame costs on each side."""
        self._running = run = OneWay(self._reactor, self.links, items_per_turn)
        before = self._cpu_seconds()
        run.turn()
        await task.deferLater(self._reactor, self._seconds)
        after, frames = self._cpu_seconds(), run.acknowledged
        run.stopped = True
        await task.deferLater(self._reactor, SETTLE_SECONDS)
        sender_us, receiver_us = ((now - then) / frames * 1e6 for then, now in zip(before, after, strict=True))
        rate = frames / self._seconds
        print(
            f"one way, {items_per_turn:3} items/turn: {rate:7.0f} frames/s {rate * items_per_turn:8.0f} items/s; "
            f"CPU per frame: sender {sender_us:5.1f} us, receiver {receiver_us:5.1f} us"
        )

    async def round_trips(self, outstanding: int) -> None:
        """Print the rate and the latencies of requests and replies."""
        self._running = run = RoundTrips(self.links)
        for _ in range(outstanding):
            run.ask()
        await task.deferLater(self._reactor, self._seconds)
        run.stopped = True
        await task.deferLater(self._reactor, SETTLE_SECONDS)
        latencies_us = [seconds * 1e6 for seconds in run.latencies_seconds]
        print(
            f"round trips, {outstanding:3} at a time: {len(latencies_us) / self._seconds:7.0f}/s; "
            f"p50 {median(latencies_us):5.0f} us, p99 {quantiles(latencies_us, n=100)[98]:5.0f} us"
        )

    def _cpu_seconds(self) -> tuple[float, float]:
        return cpu_seconds("self"), cpu_seconds(str(self._answerer_pid))


async def measure(reactor: Any, seconds: float, answerer: Popen[str]) -> None:
    """Measure against a started answerer."""
    assert answerer.stdout is not None
    bench = Bench(reactor, seconds, answerer.pid)
    bench.links.startService()
    bench.links.set_peer("answerer", Endpoint("127.0.0.1", int(answerer.stdout.readline())))
    await task.deferLater(reactor, SETTLE_SECONDS)
    for items_per_turn in (1, 10, 100):
        await bench.one_way(items_per_turn)
    for outstanding in (1, 100):
        await bench.round_trips(outstanding)
    await bench.links.stopService()


def run(main: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """Run a coroutine function under the reactor; exits with SystemExit, as task.react does."""
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, *arguments)))


def measure_and_profile(seconds: float, profile_file: str | None) -> None:
    """Measure, and stop the answerer afterwards."""
    profile = cProfile.Profile()
    with Popen([sys.executable, "-m", "benchmarks.link_bench", "--answer"], stdout=PIPE, text=True) as answerer:
        if profile_file:
            profile.enable()
        try:
            run(measure, seconds, answerer)
        finally:
            answerer.terminate()
            if profile_file:
                profile.dump_stats(profile_file)


def main() -> None:
    """Measure, or answer for a measurement."""
    parser = argparse.ArgumentParser(description="How fast a link is.")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    parser.add_argument("--profile", metavar="FILE", help="write the measuring process's cProfile there")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        run(serve)
    else:
        measure_and_profile(options.seconds, options.profile)


if __name__ == "__main__":
    main()
