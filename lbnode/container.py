"""`python -m lbnode.container`: the balancer's container from its first process on; it becomes `twistd shardlb`.

The engine's socket belongs to a group whose number is known only on the machine itself. So compose lets the container
begin as root with nothing but the right to become somebody else; it takes the image's user and the socket's group,
and is root no more. A container that does not begin as root is left as it is.
"""

from __future__ import annotations

import os
import sys

from lbnode.launchers.docker_names import USER_ID

_SOCKET = "/var/run/docker.sock"
_PROGRAM = ("twistd", "--nodaemon", "--pidfile=", "shardlb")


def main() -> None:
    """Step down, and become the balancer."""
    if os.geteuid() == 0:
        groups = [os.stat(_SOCKET).st_gid] if os.path.exists(_SOCKET) else []
        os.setgroups(groups)
        os.setresgid(USER_ID, USER_ID, USER_ID)
        os.setresuid(USER_ID, USER_ID, USER_ID)
    os.execvp(_PROGRAM[0], [*_PROGRAM, *sys.argv[1:]])


if __name__ == "__main__":
    main()
