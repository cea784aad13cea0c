"""What tests with real containers stand on: an engine, the images of this tree in it, and commands to ask it.

Everything is made under a project of this process's own, so that tests of other trees can run beside these, and is
removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"shardlb-test-{os.getpid()}"
OURS = f"label=shardlb.project={PROJECT}"
SERVER_IMAGE = f"{PROJECT}-server"
BASE_IMAGE = os.environ.get("SHARDLB_BASE_IMAGE") or "python:3.11-slim-bookworm"


@cache
def built_images() -> None:
    """Build the images as `make build` does, once for all tests; raises SkipTest where that cannot be."""
    if which("docker") is None or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise SkipTest("no Docker engine answers here")
    if subprocess.run(["docker", "image", "inspect", BASE_IMAGE], capture_output=True, check=False).returncode:
        raise SkipTest(f"the engine has no image {BASE_IMAGE}; SHARDLB_BASE_IMAGE names another to build on")
    atexit.register(_make_now, "clean-containers")
    _make_now("build")


def make_command(target: str, project: str = PROJECT) -> list[str]:
    """Return the command that makes a target under a project, with the environment that runs the tests."""
    return ["make", "--directory", str(ROOT), target, f"COMPOSE_PROJECT_NAME={project}", f"VENV={sys.prefix}"]


def _make_now(target: str) -> None:
    made = subprocess.run(make_command(target), capture_output=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


async def command(*arguments: str, **environment: str) -> str:
    """Return what a command says; it must end well."""
    running: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
        arguments[0], arguments[1:], env={**os.environ, **environment}
    )
    said, complaints, status = await running
    assert status == 0, (arguments, said, complaints)
    return said.decode().strip()


async def docker(*arguments: str) -> str:
    """Return what `docker` says."""
    return await command("docker", *arguments)


async def inspect(container: str) -> Any:
    """Return what the engine knows of a container."""
    return msgspec.json.decode(await docker("inspect", "--format", "{{json .}}", container))


async def container_of(home: str, *, of: str = OURS) -> str:
    """Return the id of a home's container, running or not, "" if there is none."""
    return await docker("ps", "--all", "--quiet", "--filter", of, "--filter", f"label=shardlb.home={home}")


async def everything(of: str = OURS) -> list[str]:
    """Return what there is in the engine with a label: containers, volumes, networks and images."""
    found = []
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls"), ("image", "ls")):
        found += (await docker(*kind, "--quiet", "--filter", of)).split()
    return found
