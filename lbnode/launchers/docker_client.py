"""The client of a Docker engine, and what goes wrong with one in our own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from lbnode.launchers import LaunchFailed

#: How long the engine may take to answer; it starts containers one after the other.
ENGINE_SECONDS = 30


class EngineUnreachable(LaunchFailed):
    """The engine does not answer; whether anything was done is unknown."""


def connect_to_engine(environment: Mapping[str, str], connections: int) -> Any:
    """Return a client of the engine that the environment names (DOCKER_HOST), by default the local one."""
    return docker.from_env(timeout=ENGINE_SECONDS, max_pool_size=connections, environment=dict(environment))


@contextmanager
def asking() -> Iterator[None]:
    """Tell in our own words what goes wrong with the engine."""
    try:
        yield
    except APIError as error:
        raise LaunchFailed(f"the engine refused: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise EngineUnreachable(f"the Docker engine cannot be reached: {error}") from error
