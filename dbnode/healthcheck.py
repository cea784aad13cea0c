"""`python -m dbnode.healthcheck URL`: exit status 0 if the URL answers 200. For images, which have no curl."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 4.0


def answers(url: str) -> bool:
    """Tell whether `http://host:port/path` answers 200 in time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1]) else 1)
