"""Both lanes over TLS, through real sockets."""

from __future__ import annotations

import http.client
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dbnode.jsonhttp import Endpoint, JsonSite, Limits
from dbnode.test.test_smuggling import Taking


def self_signed() -> PrivateCertificate:
    """Return a certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    loaded: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    return loaded


class TlsTests(TestCase):
    def direct(self, app: Taking) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that the lean lane serves: none here."""
        return {}

    async def test_requests_of_both_lanes(self) -> None:
        """Requests of both lanes share a connection, large bodies arrive, and a refusal is read to its end."""
        from twisted.internet import reactor

        app = Taking()
        site = JsonSite(reactor, app.app.resource(), Limits(body_bytes_max=300_000), self.direct(app))
        endpoint = SSL4ServerEndpoint(reactor, 0, self_signed().options(), interface="127.0.0.1")
        port: Any = await endpoint.listen(site)
        self.addCleanup(port.stopListening)
        large = b"x" * 300_000

        statuses = await deferToThread(_talk, port.getHost().port, [b"{}", large, b"{}", large + b"x"])

        while site.channels:
            await deferLater(reactor, 0.01)
        self.assertEqual(statuses, [200, 404, 200, 404, 200, 404, 413])
        self.assertEqual(app.taken, [b"{}", large, b"{}"])


class LeanTlsTests(TlsTests):
    """The same over the lean lane."""

    def direct(self, app: Taking) -> dict[tuple[bytes, bytes], Endpoint]:
        """Return the endpoints that the lean lane serves: all of them."""
        return {(b"POST", b"/take"): app.take}


def _talk(port: int, bodies: list[bytes]) -> list[int]:
    """Post bodies on one connection, each but the last followed by a request for a path that is not there."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    statuses = []
    for number, body in enumerate(bodies, start=1):
        for method, path in (("POST", "/take"), ("GET", "/nothing"))[: 2 if number < len(bodies) else 1]:
            connection.request(method, path, body)
            with connection.getresponse() as response:
                response.read()
                statuses.append(response.status)
    connection.close()
    return statuses
