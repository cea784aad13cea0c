r"""Signatures of control requests: whoever knows the cluster's secret may configure its servers.

    Authorization: Shardlb <hex HMAC-SHA256(secret, METHOD + " " + path + "\n" + body)>

A replayed request does no harm, since a configuration carries its version and an older one is refused.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

_SCHEME = b"Shardlb "


def sign(secret: bytes, method: str, path: str, body: bytes) -> bytes:
    """Return the value of the Authorization header for a request."""
    return _SCHEME + _digest(secret, method, path, body).encode()


def is_signed(secret: bytes, method: str, path: str, body: bytes, authorization: bytes | None) -> bool:
    """Return whether an Authorization header was made with `secret` for this very request."""
    expected = sign(secret, method, path, body)
    return authorization is not None and hmac.compare_digest(authorization, expected)


def _digest(secret: bytes, method: str, path: str, body: bytes) -> str:
    return hmac.new(secret, f"{method} {path}\n".encode() + body, sha256).hexdigest()
