"""The file with a cluster's secret, as whoever proves to know it reads it."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.logger import Logger

_log = Logger()

#: Whoever records one handshake can try secrets on it at leisure; ours have 256 bits in 64 digits.
SECRET_BYTES_MIN = 16
#: What others may not do with the file.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path) -> bytes:
    """Return the secret in a file, without white space around it.

    Warns if others may read the file; it is not refused, since engines hand secrets to containers in files that all of
    the container may read. Raises OSError, and ValueError if it is empty or short enough to be guessed.
    """
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(
            f"{path}: the secret has {len(secret)} bytes; it needs {SECRET_BYTES_MIN}, and better 32 that are random"
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        _log.warn(
            "{path} holds the cluster's secret and others may read it (mode {mode:o}): chmod 600", path=path, mode=mode
        )
    return secret
