"""The HTTP contract against a balancer and servers that run as processes.

Set SHARDLB_URL to run it against a balancer that runs somewhere already; the suite replaces its table.
"""

from __future__ import annotations

import atexit
import functools
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event

from lbnode.test import conformance_changes, conformance_http, contract
from lbnode.test.door import Door, UrlDoor

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0


@functools.cache
def running_balancer(lane: str, storage: str = "sqlite") -> str:
    """Return the URL of a balancer, started once for all tests and stopped when they are over."""
    if "SHARDLB_URL" in os.environ:
        return os.environ["SHARDLB_URL"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    directory = tempfile.TemporaryDirectory(prefix="shardlb-conformance-")
    atexit.register(directory.cleanup)
    twistd = Path(sys.executable).with_name("twistd")
    options = ["--port", f"tcp:{port}:interface=127.0.0.1", "--data-dir", f"{directory.name}/data", "--lane", lane]
    options += ["--storage", storage]
    log = Path(directory.name) / "log"
    with open(log, "wb") as output:
        command = [str(twistd), "--nodaemon", "--pidfile=", "shardlb", *options]
        balancer = subprocess.Popen(command, stdout=output, stderr=output)
    atexit.register(balancer.wait, _STOP_SECONDS)
    atexit.register(balancer.terminate)
    url = f"http://127.0.0.1:{port}"
    _wait_for(url, balancer, log)
    return url


def _wait_for(url: str, balancer: subprocess.Popen[bytes], log: Path) -> None:
    pause = Event()
    for _ in range(round(_START_SECONDS / 0.1)):
        try:
            UrlDoor(url).send("GET", "/healthz")
        except OSError:
            assert balancer.poll() is None, log.read_text()
            pause.wait(0.1)
        else:
            return
    raise AssertionError(f"no answer within {_START_SECONDS} seconds: {log.read_text()}")


class _Lean(contract.ConformanceCase):
    def open(self) -> Door:
        """Return a door to the running balancer."""
        return UrlDoor(running_balancer("lean"))


class _Klein(contract.ConformanceCase):
    def open(self) -> Door:
        """Return a door to the running balancer without the lean lane."""
        return UrlDoor(running_balancer("klein"))


class Lean(_Lean, contract.Contract):
    """The balancer over real servers."""


class LeanRemoval(_Lean, contract.Removal):
    """The same, when servers go."""


class Klein(_Klein, conformance_changes.Writes, conformance_http.Bodies, conformance_http.Paths):
    """The balancer over real servers without the lean lane, as far as that can make a difference."""
