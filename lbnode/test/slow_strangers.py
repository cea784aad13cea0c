"""Strangers at the ports of real servers while a client writes and reads: they get nothing, and it notices nothing."""

from __future__ import annotations

import contextlib
import random
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from dbnode.wire import Endpoint, LinkItem, ServerFile, Status, encode_items
from lbnode.launchers.processes import with_argument
from lbnode.test import strangers
from lbnode.test.strangers import Connect, Recorder, in_the_clear
from lbnode.test.test_tap import BalancerProcessCase
from raftlog.link import Connection, Identity, Lane
from raftlog.link.frames import frame
from raftlog.link.greeting import MAGIC, encode_greeting
from raftlog.link.links import Links
from raftlog.tls import MutualTls
from raftlog.tls.authority import issue, make_authority

SERVER = "Server0"
#: What a process may have more in memory after a flood than before; the rows of the client are far less.
MEMORY_BYTES_MORE_MAX = 48 << 20
decode_items: Any = msgspec.msgpack.Decoder(list[LinkItem]).decode


def memory_bytes(pid: int) -> int:
    """Return what a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid} is gone")


def told_to(pids: list[int]) -> dict[str, bytes]:
    """Return the arguments and environments of processes, by the files that show them to others."""
    places = [f"/proc/{pid}/{what}" for pid in pids for what in ("cmdline", "environ")]
    return {place: Path(place).read_bytes() for place in places}


class StrangerTests(BalancerProcessCase):
    """Servers that speak no TLS."""

    timeout = 240

    def setUp(self) -> None:
        """Have nothing written yet."""
        super().setUp()
        self.written: list[int] = []
        self.failed: list[Any] = []
        self._working: Deferred[None] | None = None
        self.tls_dir = Path(self.mktemp()).absolute()

    # ---- the cluster and its client ---------------------------------------------------------------------------

    def options(self) -> list[str]:
        """Return what the balancer is told besides its table."""
        return []

    async def begin(self, *further: str) -> None:
        """Start a balancer with three servers and a client that never rests."""
        self.start("--auto-init", "default", *self.options(), *further, SERVER_NUMBER="3")
        await self.until_ready()
        self._work = LoopingCall(self._write_and_read)
        self._working = self._work.start(0.02).addCallback(lambda _: None)
        await self.until_written(20)
        self.memory = {pid: memory_bytes(pid) for pid in self.pids()}

    async def _write_and_read(self) -> None:
        key = len(self.written) * 977 % 16384
        row = {"Stud_id": key, "Stud_name": "x" * 50, "Stud_marks": key}
        status, answer = await self.ask("POST", "/write", {"data": [row]})
        if status != 200:
            self.failed.append(answer)
        self.written.append(key)
        status, answer = await self.ask("POST", "/read", {"Stud_id": {"low": key, "high": key}})
        if status != 200 or answer["data"] != [row]:
            self.failed.append(answer)

    async def until_written(self, more: int) -> None:
        """Wait until the client has written so many rows more."""
        wanted = len(self.written) + more
        while len(self.written) < wanted:
            self.assertTrue(self._work.running, "the client ended by itself")
            await deferLater(self.reactor, 0.02)

    async def end(self) -> None:
        """Check that the client saw no error, and that no process has grown."""
        await self.until_written(20)
        self._work.stop()
        if self._working is not None:
            await self._working
        self.assertEqual(self.failed, [])
        for pid, before in self.memory.items():
            self.assertLess(memory_bytes(pid) - before, MEMORY_BYTES_MORE_MAX)

    def pids(self) -> list[int]:
        """Return the processes of the cluster, the balancer's workers among them."""
        homes = [self.data / "servers" / name for name in self.servers()]
        found = [process for path in (self.data, *homes) for process in with_argument("--data-dir", str(path))]
        return [process.pid for process in found + with_argument("--secret-file", str(self.data / "secret"))]

    @property
    def home(self) -> Path:
        """The data directory of the server that strangers visit."""
        return self.data / "servers" / SERVER

    @property
    def file(self) -> ServerFile:
        """What that server says of itself."""
        return msgspec.json.decode((self.home / "endpoints.json").read_bytes(), type=ServerFile)

    @property
    def link(self) -> Endpoint:
        """Its link port."""
        assert self.file.link is not None
        return self.file.link

    def refusals(self) -> list[str]:
        """Return what the server logged of whom it refused."""
        lines = (self.home / "server.log").read_text().splitlines()
        return [line.partition("refused a connection ")[2] for line in lines if "refused a connection " in line]

    # ---- strangers --------------------------------------------------------------------------------------------

    def connect(self, name: str = "balancer") -> Connect:
        """Return what makes connections for somebody who has got as far as the link protocol."""
        return in_the_clear

    def own_tls(self, name: str) -> MutualTls | None:
        """Return the TLS of a genuine balancer of that name."""
        return None

    @property
    def secret(self) -> bytes:
        """What genuine processes know."""
        return (self.data / "secret").read_bytes().strip()

    async def test_noise(self) -> None:
        """Random bytes, connections on which nothing is said, frames without end and single bytes disturb nobody."""
        await self.begin()
        hello = frame(encode_greeting(strangers.hello(self.file.cluster_id)))

        open_ones = await deferToThread(strangers.half_open, in_the_clear, self.link, 300)
        slowly = deferToThread(strangers.slow, self.connect(), self.link, hello)
        for seed, connect in enumerate((in_the_clear, self.connect(), in_the_clear)):
            await deferToThread(strangers.garbage, connect, self.link, seed, 100)
        answers = [await deferToThread(strangers.oversized, one, self.link) for one in (in_the_clear, self.connect())]
        said_slowly = await slowly

        self.assertEqual(strangers.refusal_of(answers[1]), "protocol")
        # Cut off at the deadline, or driven out by the crowd: nothing is said to either.
        self.assertEqual(said_slowly, b"")
        await self.end()
        for one in open_ones:
            one.close()
        self.assertEqual(len(set(self.refusals())), len(self.refusals()))

    async def test_who_does_not_belong(self) -> None:
        """Wrong secret, wrong cluster, wrong version: each is told so, and logged once however often it comes."""
        await self.begin()
        cluster_id = self.file.cluster_id
        own = Identity(cluster_id, "balancer", "balancer/stranger", "one")
        for _ in range(5):
            entered = partial(strangers.enter, self.connect(), self.link, own)
            wrong_secret = await deferToThread(entered, b"not the secret, but a guess", SERVER)
            wrong_cluster = await deferToThread(strangers.greet, self.connect(), self.link, strangers.hello("other"))
            wrong_version = await deferToThread(strangers.greet, self.connect(), self.link, MAGIC + b"\x63later")
            right = await deferToThread(entered, self.secret, SERVER)

            self.assertEqual((wrong_secret, wrong_cluster, wrong_version, right), ("secret", "cluster", "version", ""))
        await self.end()
        told = self.refusals()
        for text in ("do not share a secret", "belongs to another cluster", "speaks version 99"):
            self.assertEqual(len([line for line in told if text in line]), 1, told)

    async def test_recordings(self) -> None:
        """What a genuine balancer said, recorded on the wire, opens nothing when it is played again."""
        await self.begin()
        recorder = Recorder(self.link)
        answers = await self.talk_through(recorder)
        recorder.stop()
        recorded = max(recorder.recorded, key=len)

        replayed = await deferToThread(strangers.replay, self.link, recorded, 10)

        self.assertGreater(answers, 0)
        self.check_replayed(replayed)
        await self.end()

    async def talk_through(self, recorder: Recorder) -> int:
        """Ask the server something as a genuine balancer whose wire is tapped; return how often it answered."""
        replies: list[Any] = []

        def receive(connection: Connection, items: list[Any]) -> None:
            replies.extend(items)

        own = Identity(self.file.cluster_id, "balancer", "tapped", "one")
        rng = random.Random(1)
        links = Links(
            self.reactor, own, self.secret, encode_items, decode_items, receive, rng=rng, tls=self.own_tls("tapped")
        )
        links.startService()
        links.set_peer(SERVER, recorder.endpoint)
        for number in range(3):
            links.send(SERVER, Lane.DATA, Status(number + 1))
            while len(replies) <= number:
                await deferLater(self.reactor, 0.02)
        await links.stopService()
        return len(replies)

    def check_replayed(self, answers: list[bytes]) -> None:
        """Check that nothing but a hello and a refusal came back."""
        self.assertEqual([strangers.refusal_of(answer) for answer in answers], ["secret"] * len(answers))

    async def test_http(self) -> None:
        """Endless headers, trickling ones, bodies that are too long and unsigned configurations get no further."""
        await self.begin()
        at = self.file.http

        def talk(data: bytes) -> bytes:
            with self.connect()(at) as stranger:
                strangers.send_what_is_taken(stranger, data)
                return strangers.until_cut_off(stranger).partition(b"\r\n")[0]

        headers = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 50) for number in range(100_000))
        unsigned = b'{"cluster":{"version":99999}}'
        config = b"POST /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        self.assertIn(b"431", await deferToThread(talk, b"GET /home HTTP/1.1\r\n" + headers))
        self.assertIn(b"413", await deferToThread(talk, b"POST /write HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"))
        self.assertIn(b"401", await deferToThread(talk, config % (len(unsigned), unsigned)))
        crowd = await deferToThread(strangers.half_open, self.connect(), at, 100)
        for number, stranger in enumerate(crowd):
            stranger.sendall(b"POST /write HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"[: 10 + number] + b"x")
        await self.end()
        for stranger in crowd:
            stranger.close()

    async def test_the_secret_is_nowhere(self) -> None:
        """Neither arguments nor environments nor logs nor any file but the private ones hold the secret or a key."""
        await self.begin("--workers", "1")
        own = Identity(self.file.cluster_id, "balancer", "balancer/stranger", "one")
        await deferToThread(strangers.enter, self.connect(), self.link, own, b"not the secret, but a guess", SERVER)
        secrets = [self.secret, *self.keys()]
        pids = self.pids()

        self.assertEqual(len(pids), 5)
        for place, content in told_to(pids).items():
            self.assertFalse(any(secret in content for secret in secrets), place)
        logs = b"".join(running.output for running, _ in self.balancers)
        self.assertFalse(any(secret in logs for secret in secrets))
        for path in self.data.rglob("*"):
            if path.is_file() and any(secret in path.read_bytes() for secret in secrets):
                self.assertEqual((path.name, path.stat().st_mode & 0o777), ("secret", 0o600), path)
        await self.end()

    def keys(self) -> list[bytes]:
        """Return lines of private keys."""
        return []


class TlsStrangerTests(StrangerTests):
    """Servers in TLS: strangers who have stolen a certificate, and those who have none."""

    def options(self) -> list[str]:
        """Return what the balancer is told besides its table."""
        make_authority(self.tls_dir, "c1", datetime.now(UTC))
        return ["--tls-dir", str(self.tls_dir)]

    def connect(self, name: str = "balancer") -> Connect:
        """Return what makes connections for somebody with a genuine certificate."""
        return partial(self.in_tls, self.tls_dir / f"balancer-{name}.pem")

    def own_tls(self, name: str) -> MutualTls | None:
        """Return the TLS of a genuine balancer of that name."""
        issue(self.tls_dir, "balancer", name, datetime.now(UTC))
        return MutualTls(self.reactor, self.tls_dir, "balancer", name)

    def keys(self) -> list[bytes]:
        """Return lines of private keys."""
        return [path.read_bytes().splitlines()[1] for path in (*self.tls_dir.glob("*-*.pem"), self.tls_dir / "ca.key")]

    def check_replayed(self, answers: list[bytes]) -> None:
        """Check that TLS let nobody in: what comes back is its beginning, and each was cut off."""
        self.assertTrue(all(answer.startswith(b"\x16\x03") for answer in answers), answers)
        self.assertTrue(any("(links): TLS failed" in line for line in self.refusals()), self.refusals())

    def in_tls(self, certificate: Path | None, at: Endpoint, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
        """Connect with a certificate, believing anybody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.maximum_version = version
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context.wrap_socket(in_the_clear(at))

    async def test_certificates(self) -> None:
        """Whoever knows the secret but has no certificate, a foreign one or another's, opens neither port."""
        await self.begin()
        foreign = self.tls_dir.with_name("foreign")
        make_authority(foreign, "c1", datetime.now(UTC))
        certificates = {
            "none": None,
            "foreign": issue(foreign, "balancer", "balancer", datetime.now(UTC)),
            "expired": issue(self.tls_dir, "balancer", "late", datetime.now(UTC) - timedelta(days=9), 8),
            "another server's": self.tls_dir / "server-Server1.pem",
            "an operator's": issue(self.tls_dir, "operator", "ops", datetime.now(UTC)),
        }
        late = Identity("c1", "balancer", "balancer/late", "one")
        server = Identity("c1", "server", "Server2", "one")

        def try_all(identity: Identity, at: Endpoint) -> dict[str, str]:
            return {
                whose: strangers.enter(partial(self.in_tls, one), at, identity, self.secret, SERVER)
                for whose, one in certificates.items()
            }

        for _ in range(3):
            as_balancer = await deferToThread(try_all, late, self.link)
            as_server = await deferToThread(try_all, server, self.link)
        answers = {whose: await deferToThread(self.home_page, one) for whose, one in certificates.items()}

        turned_away = dict.fromkeys(certificates, "cut off")
        self.assertEqual(as_balancer, turned_away | {"another server's": "certificate"})
        self.assertEqual(as_server, turned_away | {"another server's": "certificate"})
        self.assertEqual(answers, dict.fromkeys(certificates, b"") | {"an operator's": b"HTTP/1.0 200 OK"})
        await self.end()
        told = self.refusals()
        self.assertEqual(len(set(told)), len(told))
        for text in ("has expired", "foreign authority", "server Server1 of cluster c1 says that it is balancer"):
            self.assertEqual(len([line for line in told if text in line and "links" in line]), 1, told)

    async def test_versions(self) -> None:
        """TLS before 1.3 is refused, a certificate of the cluster or not."""
        await self.begin()
        certificate = self.tls_dir / "balancer-balancer.pem"
        for at in (self.link, self.file.http):
            with self.assertRaises(ssl.SSLError):
                await deferToThread(self.in_tls, certificate, at, ssl.TLSVersion.TLSv1_2)
        await self.end()

    def home_page(self, certificate: Path | None) -> bytes:
        """Return the first line of the answer to somebody with this certificate, b"" if there is none."""
        with contextlib.suppress(ConnectionError, ssl.SSLError), self.in_tls(certificate, self.file.http) as client:
            client.sendall(b"GET /home HTTP/1.0\r\n\r\n")
            return strangers.until_cut_off(client).partition(b"\r\n")[0]
        return b""
