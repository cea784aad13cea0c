"""`python -m lbnode.shared_secret FILE`: makes the secret of a cluster of several balancers, unless it is there.

For a composition: whoever runs this may give the file to the balancers' user, and is done before they begin.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from lbnode.durable_file import replace_file
from lbnode.launchers.docker_names import USER_ID


def make_secret(path: Path, owner: int) -> None:
    """Put a new secret into a file that only `owner` may read; one that is there stays."""
    if not path.exists():
        replace_file(path, secrets.token_hex(32).encode() + b"\n", mode=0o600)
    os.chown(path, owner, owner)


if __name__ == "__main__":
    make_secret(Path(sys.argv[1]), USER_ID)
