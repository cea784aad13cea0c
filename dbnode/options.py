"""The options of a database server: from the command line, else from the environment, else a default.

Every option `--some-name` is also SHARDLB_SOME_NAME; the names that the course's projects use work as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.python import usage

from dbnode.client.storage import storage_from_text
from dbnode.datadir import OFF
from dbnode.errors import ApiError
from dbnode.jsonhttp import RECEIVING, Limits
from dbnode.schema import Schema, schema_from_json
from dbnode.wire import BODY_BYTES_LIMIT

#: The names that the course's projects use for the same things. PORT is for a server alone (see ServerSettings).
COURSE_NAMES: dict[str, tuple[str, ...]] = {
    "name": ("SERVER_NAME", "SERVER_ID"),
    "id": ("SERVER_ID",),
    "schema": ("SERVER_SCHEMA",),
    "storage": ("DATABASE_URL",),
}


class ServerSettings(msgspec.Struct, frozen=True):
    """What an operator chose. None: as it was the last time, or a default that depends on other things."""

    data_dir: Path
    name: str | None
    server_id: str | None
    cluster_id: str | None
    secret_file: Path | None
    #: A directory, or OFF.
    tls_dir: str | None
    http: str | None
    link: str | None
    schema: Schema | None
    storage: str | None
    postgres_programs: Path | None
    deadline_seconds: float
    limits: Limits


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{text} is not at least 1")
    return number


def _body_bytes(text: str) -> int:
    number = _positive(text)
    if number > BODY_BYTES_LIMIT:
        raise ValueError(f"{text} is above {BODY_BYTES_LIMIT}: a longer change would be no entry of a shard's log")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text} is not a time above 0")
    return seconds


def _endpoint(text: str) -> str:
    """Return the description of a server endpoint; a bare number is a port on the loopback."""
    if text.startswith("unix:"):
        raise ValueError(f"{text} is no place that a balancer and other servers reach; take a port")
    if not text.isdecimal():
        return text
    if int(text) >= 1 << 16:
        raise ValueError(f"{text} is no port")
    return f"tcp:{text}:interface=127.0.0.1"


def _tls_dir(text: str) -> str:
    return text if text == OFF else str(Path(text).absolute())


def _storage_in(path: str) -> str:
    """Return the storage that a file names."""
    try:
        return storage_from_text(Path(path).read_text().strip())
    except OSError as error:
        raise ValueError(error.strerror) from None


def _schema(text: str) -> Schema:
    try:
        return schema_from_json(json.loads(text))
    except ApiError as error:
        raise ValueError(error.text) from None


#: Name, short name, default, what it is for, and how its text becomes a value.
_PARAMETERS: list[tuple[str, str | None, Any, str, Callable[[str], Any]]] = [
    ("data-dir", "d", None, "Where the server keeps everything; made if it is not there", str),
    ("name", None, None, "The server's name in its cluster; needed the first time only", str),
    ("id", None, None, "What GET /home says; the name unless given", str),
    ("cluster-id", None, None, "The cluster that manages this server; without one it is a server alone", str),
    ("secret-file", None, None, "A file with the cluster's secret, which is copied into the data directory", str),
    ("tls-dir", None, None, "Certificates (see bin/certificates): links and HTTP in mutual TLS; or 'off'", _tls_dir),
    ("http", None, None, "Where HTTP is served: a port on 127.0.0.1, or an endpoint", _endpoint),
    ("link", None, None, "Where servers and balancers connect: a port on 127.0.0.1, or an endpoint", _endpoint),
    ("schema", None, None, "JSON schema for a POST /config without one, to a server alone", _schema),
    (
        "storage",
        None,
        None,
        "What a new server keeps its shards in: sqlite (the default), postgres (of its own), or a DSN postgresql://...",
        storage_from_text,
    ),
    ("storage-file", None, None, "A file with what --storage would say: a DSN with a password", _storage_in),
    ("postgres-programs", None, None, "Folder of PostgreSQL's programs; looked for unless given", str),
    ("deadline", None, 10.0, "Seconds that a request may take", _seconds),
    ("body-bytes-max", None, Limits().body_bytes_max, "Longest request body, in bytes", _body_bytes),
    ("connections-max", None, Limits().connections_max, "Most HTTP connections at once", _positive),
    ("receiving-bytes-max", None, Limits().receiving_bytes_max, RECEIVING, _positive),
]


class ServerOptions(usage.Options):
    """Options of a database server; `environment` is where those come from that the command line leaves out."""

    synopsis = "--name NAME --data-dir DIR [options]"
    longdesc = "A database server. Whatever it must not forget is in DIR; to start it again, DIR is enough."
    optParameters = [list(parameter) for parameter in _PARAMETERS]

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._course_port = environment.get("PORT")
        for name, _, _, _, convert in _PARAMETERS:
            variables = (f"SHARDLB_{name.upper().replace('-', '_')}", *COURSE_NAMES.get(name, ()))
            variable = next((variable for variable in variables if environment.get(variable)), None)
            if variable is not None:
                self[name] = _converted(variable, environment[variable], convert)

    def postOptions(self) -> None:
        """Refuse a command line without a data directory, or with limits that contradict each other."""
        if not self["data-dir"]:
            raise usage.UsageError("give a data directory with --data-dir or SHARDLB_DATA_DIR")
        try:
            self._limits.check()
        except ValueError as error:
            raise usage.UsageError(str(error)) from None

    @property
    def _limits(self) -> Limits:
        return Limits(
            body_bytes_max=self["body-bytes-max"],
            connections_max=self["connections-max"],
            receiving_bytes_max=self["receiving-bytes-max"],
        )

    @property
    def settings(self) -> ServerSettings:
        """What was chosen.

        PORT counts only for a server alone: those that a balancer starts inherit the balancer's own PORT.
        """
        http = self["http"]
        if http is None and self._course_port and not self["cluster-id"]:
            http = _converted("PORT", self._course_port, _endpoint)
        secret_file, programs = self["secret-file"], self["postgres-programs"]
        return ServerSettings(
            data_dir=Path(self["data-dir"]).absolute(),
            name=self["name"],
            server_id=self["id"],
            cluster_id=self["cluster-id"],
            secret_file=Path(secret_file).absolute() if secret_file else None,
            tls_dir=self["tls-dir"],
            http=http,
            link=self["link"],
            schema=self["schema"],
            storage=self["storage"] or self["storage-file"],
            postgres_programs=Path(programs).absolute() if programs else None,
            deadline_seconds=self["deadline"],
            limits=self._limits,
        )


def _converted(variable: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise usage.UsageError(f"{variable}={text}: {error}") from None
