"""What becomes one of PostgreSQL's programs: run by an interpreter of its own, never imported.

    python -I -S child.py PARENT USER PROGRAM ARGUMENTS...

It leaves the parent's session, so that Ctrl-C does not reach it, and asks the kernel to have it shut down in order
(SIGINT) when the process PARENT dies (prctl(2), PR_SET_PDEATHSIG). USER is uid:gid to become, or "-": PostgreSQL
refuses to run as root. It needs no way to its data directory, which it finds open as descriptor 3.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program."""
    parent, user, *command = sys.argv[1:]
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    if user != "-":
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which would undo it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() == int(parent):
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
