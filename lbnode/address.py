"""Where clients reach a balancer, in words that curl understands."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IListeningPort

#: What to call a port that listens everywhere.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def url_of(port: IListeningPort, description: str) -> str:
    """Return the URL of a port that was opened from an endpoint's description.

    A socket of the file system has none; in its place comes what stands before the path on curl's command line.
    """
    host: Any = port.getHost()
    if isinstance(host, UNIXAddress):
        return f"--unix-socket {_text(host.name)} http://localhost"
    name = _ANYWHERE.get(host.host) or (f"[{host.host}]" if ":" in host.host else host.host)
    return f"{'https' if description.startswith('ssl:') else 'http'}://{name}:{host.port}"


def _text(path: Any) -> str:
    return path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
