"""Namespaces for who is not root: the command starts again as root of a user namespace, with a network of its own.

In there it may make network namespaces, and can do no harm to anything outside, which it does not reach either: so
only a chaos that needs nothing but its own cluster goes there. Kernels may forbid it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from shutil import which

#: /run is where `ip` keeps its namespaces, and not ours outside.
_INSIDE = 'mount -t tmpfs none /run && ip link set lo up && exec "$@"'


def become_root() -> None:
    """Start this program again where it is root, if it is not and that can be."""
    if os.geteuid() == 0 or which("unshare") is None or which("ip") is None:
        return
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", _INSIDE, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        os.execvp(command[0], [*command, sys.executable, *sys.argv])
