"""Servers to compare with, each a process of its own: `python -m benchmarks.ceiling klein|web|constant --port N`.

`klein` is the bare Klein app: it decodes the same JSON body that a balancer gets and answers a constant, which for
reads is as long as a real answer. That is the ceiling of every design that answers through Klein. `web` does the same
on twisted.web alone, without Klein's router. `constant` is a bare protocol that does not even look at the body: it
shows how fast the client is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import Site

from benchmarks.constant import Constant
from benchmarks.workloads import Record

_STORED = b'{"message":"1 Data entries added","status":"success"}'
#: Connections that may wait to be accepted; more than any concurrency we run.
_BACKLOG = 1024


class BareKlein:
    """The least a Klein app can do with the requests of a workload."""

    app = Klein()

    def __init__(self, row: Record) -> None:
        self._read = _read_answer(row)

    @app.route("/write", methods=["POST"])
    def write(self, request: IRequest) -> bytes:
        """Decode the rows and say that one was stored."""
        return _answer(request, _STORED)

    @app.route("/read", methods=["POST"])
    def read(self, request: IRequest) -> bytes:
        """Decode the range and return one row, always the same."""
        return _answer(request, self._read)


class BareWeb(Resource):
    """The same on twisted.web, whose resource looks at the path itself."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, row: Record) -> None:
        super().__init__()
        self._answers = {b"/write": _STORED, b"/read": _read_answer(row)}

    def render_POST(self, request: Request) -> bytes:  # noqa: N802 - Twisted's name
        """Decode the body and answer as the path wants."""
        return _answer(request, self._answers[request.path])


def _read_answer(row: Record) -> bytes:
    return msgspec.json.encode({"shards_queried": ["sh1"], "data": [row], "status": "success"})


def _answer(request: Any, answer: bytes) -> bytes:
    msgspec.json.decode(request.content.read())
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(answer))
    return answer


class _QuietSite(Site):
    """A site without an access log: a balancer writes nothing per request either."""

    noisy = False

    def log(self, request: Request) -> None:
        """Write nothing."""


def bare_site(kind: str, width: int) -> Site:
    """Return the bare Klein app or twisted.web resource; its read answers hold a name of `width` bytes."""
    row = Record(10_000, "x" * width, 50)
    return _QuietSite(BareKlein(row).app.resource() if kind == "klein" else BareWeb(row))


class ConstantFactory(Factory):
    """Builds protocols that answer as if one row were stored."""

    noisy = False
    _answer = (
        b"HTTP/1.1 200 OK\r\nServer: constant\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_STORED), _STORED)
    )

    def buildProtocol(self, addr: object) -> Constant:
        """Return a protocol for a new connection."""
        return Constant(self._answer)


def _serve(reactor: object, arguments: argparse.Namespace) -> Deferred[None]:
    kind = arguments.kind
    factory: IProtocolFactory = ConstantFactory() if kind == "constant" else bare_site(kind, arguments.width)
    endpoint = TCP4ServerEndpoint(reactor, arguments.port, backlog=_BACKLOG, interface="127.0.0.1")
    served: Deferred[None] = endpoint.listen(factory).addCallback(lambda _: Deferred())
    return served


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceiling", description=__doc__)
    parser.add_argument("kind", choices=("klein", "web", "constant"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--width", type=int, default=16, help="bytes of the name in read answers")
    react(_serve, (parser.parse_args(arguments),))


if __name__ == "__main__":
    main()
