"""Opening connections: what every one of them is told, and names that are looked up without holding the reactor up."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred

from dbnode.postgres.connection import Connection, Parameters, TxConnection
from dbnode.store import RunInThread, StoreUnavailable

#: What is not said otherwise. A peer that is gone without a word is noticed within half a minute; and GSSAPI, which
#: would look for tickets and servers of its own and wait for them, is left out.
_DEFAULTS = {
    "client_encoding": "UTF8",
    "gssencmode": "disable",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


class Dial:
    """Opens connections with txpostgres; each tells `application` as who it is (see pg_stat_activity)."""

    def __init__(self, reactor: Any, run_in_thread: RunInThread, application: str) -> None:
        self._reactor = reactor
        self._run_in_thread = run_in_thread
        self._application = application

    def __call__(self, parameters: Parameters) -> Deferred[Connection]:
        """See Connect."""
        return Deferred.fromCoroutine(self._connect(parameters))

    async def _connect(self, parameters: Parameters) -> Connection:
        told = {**_DEFAULTS, "application_name": self._application, **parameters}
        told |= await self._address(told.get("host", ""), told.get("port", ""))
        connection = TxConnection(self._reactor, self._run_in_thread, described(parameters))
        await connection.open(told)
        return connection

    async def _address(self, host: str, port: str) -> dict[str, str]:
        """Return the address of a host given by name: libpq would look it up and let everything wait."""
        if not host or host.startswith(("/", "@")) or "," in host or _is_address(host):
            return {}

        def look_up() -> str:
            return str(socket.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)[0][4][0])

        try:
            return {"hostaddr": await self._run_in_thread(look_up)}
        except OSError as error:
            raise StoreUnavailable(f"PostgreSQL at {host}: {error}") from error


def described(parameters: Parameters) -> str:
    """Return where a PostgreSQL is, without the password."""
    host = parameters.get("host") or "the local socket"
    where = "its own PostgreSQL" if host.startswith("/proc/self/") else f"PostgreSQL at {host}"
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"{where}{port}, database {parameters.get('dbname', '(default)')}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
