"""`python -m dbnode.healthcheck URL`: exit status 0 if the URL answers 200. For images, which have no curl.

A server in mutual TLS lets nobody ask who has no certificate to show, this check included. That it does its part of
the handshake then shows that it lives: the same event loop would answer.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 4.0


def answers(url: str) -> bool:
    """Tell whether `http://host:port/path` answers 200 in time, or speaks TLS."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return _speaks_tls(parts.hostname or "", parts.port or 0)
    finally:
        connection.close()


def _speaks_tls(host: str, port: int) -> bool:
    # Nothing is told, and nothing believed that is heard.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), _TIMEOUT_SECONDS) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1]) else 1)
