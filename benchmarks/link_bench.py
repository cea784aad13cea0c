"""How fast a link is: `python -m benchmarks.link_bench [--seconds N] [--tls] [--profile FILE]`.

Two processes on loopback, the real items and codec. One-way: the sender puts 1, 10 or 100 items into every reactor
turn, with at most WINDOW frames not yet acknowledged; both sides' CPU time per frame is what a frame costs. Round
trip: one request at a time, answered at once, and 100 at a time. With --tls each is measured in the clear and then in
mutual TLS, with a third process to answer, and a further line compares the two.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median, quantiles
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import msgspec
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint

from dbnode.wire import Applied, LinkItem, Propose, Stored
from raftlog.link import Connection, Endpoint, Identity, Lane
from raftlog.link.links import Links
from raftlog.tls import MutualTls
from raftlog.tls.authority import issue, make_authority

#: Frames on their way; enough to keep both sides busy, few enough to stay in the sockets' buffers.
WINDOW = 64
#: For connections to come up, and for what is on its way at the end of a measurement.
SETTLE_SECONDS = 0.3
COMMAND = b"x" * 120
#: Request ids with a meaning of their own; other requests are counted and acknowledged once per frame.
ECHO_FROM = 1 << 40

encode_items = msgspec.msgpack.Encoder().encode
decode_items: Any = msgspec.msgpack.Decoder(list[LinkItem]).decode


def make_links(reactor: Any, name: str, receive: Any, certificates: Path | None) -> Links:
    """Return the links of one of the processes, in TLS if there are certificates."""
    identity = Identity("benchmark", "server", name, "one")
    tls = MutualTls(reactor, certificates, "server", name) if certificates is not None else None
    return Links(reactor, identity, b"no secret", encode_items, decode_items, receive, rng=Random(1), tls=tls)


# ---- the answering process ------------------------------------------------------------------------------------


def answer(connection: Connection, items: list[Any]) -> None:
    """Acknowledge a frame, or answer each of its requests."""
    if items[0].request_id < ECHO_FROM:
        connection.send(Applied(len(items), ()))
        return
    for item in items:
        connection.send(Applied(item.request_id, (Stored(1),)))


async def serve(reactor: Any, certificates: Path | None) -> None:
    """Answer until killed."""
    links = make_links(reactor, "answerer", answer, certificates)
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

    def __init__(self, reactor: Any, seconds: float, answerer: Popen[str], certificates: Path | None) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._answerer = answerer
        self._running: OneWay | RoundTrips | None = None
        self.links = make_links(reactor, "measurer", self._received, certificates)

    def start(self) -> None:
        """Dial the answerer."""
        assert self._answerer.stdout is not None
        self.links.startService()
        self.links.set_peer("answerer", Endpoint("127.0.0.1", int(self._answerer.stdout.readline())))

    def _received(self, connection: Connection, items: list[Any]) -> None:
        if self._running is not None:
            self._running.received(connection, items)

    async def one_way(self, items_per_turn: int) -> tuple[float, float]:
        """Print frames and items per second, and what a frame costs on each side; return frames/s and CPU us/frame."""
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
        return rate, sender_us + receiver_us

    async def round_trips(self, outstanding: int) -> tuple[float, float]:
        """Print the rate and the latencies of requests and replies; return rate and CPU us/round trip."""
        self._running = run = RoundTrips(self.links)
        before = sum(self._cpu_seconds())
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
        trips = len(latencies_us)
        return trips / self._seconds, (sum(self._cpu_seconds()) - before) / trips * 1e6

    def _cpu_seconds(self) -> tuple[float, float]:
        return cpu_seconds("self"), cpu_seconds(str(self._answerer.pid))


async def measure(reactor: Any, seconds: float, answerers: list[tuple[Popen[str], Path | None]]) -> None:
    """Measure against started answerers, and compare the second, if there is one, with the first."""
    benches = [Bench(reactor, seconds, answerer, certificates) for answerer, certificates in answerers]
    for bench in benches:
        bench.start()
    await task.deferLater(reactor, SETTLE_SECONDS)
    for items_per_turn in (1, 10, 100):
        compare([await bench.one_way(items_per_turn) for bench in benches])
    for outstanding in (1, 100):
        compare([await bench.round_trips(outstanding) for bench in benches])
    for bench in benches:
        await bench.links.stopService()


def compare(measured: list[tuple[float, float]]) -> None:
    """Print what TLS leaves of a rate, and what it adds to the CPU's part, which others on the machine disturb less."""
    if len(measured) > 1:
        (rate, cpu), (tls_rate, tls_cpu) = measured
        print(f"    the second in TLS: {tls_rate / rate:.0%} of the rate, {tls_cpu / cpu:.0%} of the CPU time for each")


def run(main: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """Run a coroutine function under the reactor; exits with SystemExit, as task.react does."""
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, *arguments)))


def measure_and_profile(seconds: float, profile_file: str | None, *, tls: bool) -> None:
    """Measure, and stop the answerers afterwards."""
    profile = cProfile.Profile()
    command = [sys.executable, "-m", "benchmarks.link_bench", "--answer"]
    with ExitStack() as stack:
        certificates = Path(stack.enter_context(TemporaryDirectory()))
        answerers: list[tuple[Popen[str], Path | None]] = [(Popen(command, stdout=PIPE, text=True), None)]
        if tls:
            make_certificates(certificates)
            answerers.append((Popen([*command, str(certificates)], stdout=PIPE, text=True), certificates))
        for answerer, _ in answerers:
            stack.enter_context(answerer)
            stack.callback(answerer.terminate)
        if profile_file:
            profile.enable()
            stack.callback(profile.dump_stats, profile_file)
        run(measure, seconds, answerers)


def make_certificates(directory: Path) -> None:
    """Make those of the two names that there are."""
    now = datetime.now(UTC)
    make_authority(directory, "benchmark", now)
    for name in ("answerer", "measurer"):
        issue(directory, "server", name, now)


def main() -> None:
    """Measure, or answer for a measurement."""
    parser = argparse.ArgumentParser(description="How fast a link is.")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line")
    parser.add_argument("--profile", metavar="FILE", help="write the measuring process's cProfile there")
    parser.add_argument("--tls", action="store_true", help="also measure in mutual TLS")
    parser.add_argument("--answer", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer is not None:
        run(serve, options.answer[0] if options.answer else None)
    else:
        measure_and_profile(options.seconds, options.profile, tls=options.tls)


if __name__ == "__main__":
    main()
