"""A balancer in memory that answers as HTTP_API promises, for tests of the bench; it can be told to misbehave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from twisted.web.http import Request
from twisted.web.resource import Resource

from benchmarks.workloads import Workload

_NOT_FOUND = 404, {"status": "failure", "code": "not_found", "message": "<Error>", "applied": "no"}


class FakeBalancer(Resource):
    """Holds one table in a dictionary, which every server shows as its replicas.

    `layout` is the workload whose cluster it pretends to be. `lost` are ids whose changes it acknowledges and forgets;
    `refused` are ids that it refuses to write; `stray` is shown by the server of that name instead of its own rows.
    While `old_rows` are set, reads are answered from them. It knows /add and /rm only if it `resizes`.
    `states` is what its status says of each server.
    """

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.layout = workload
        self.rows: dict[int, dict[str, Any]] = {}
        self.lost: set[int] = set()
        self.refused: set[int] = set()
        self.stray: dict[str, dict[str, list[Any]]] = {}
        self.old_rows: dict[int, dict[str, Any]] | None = None
        self.resizes = False
        self.states: dict[str, dict[str, Any]] = {}

    def render(self, request: Request) -> bytes:
        """Answer one request."""
        assert request.method is not None
        assert request.content is not None
        route = f"{request.method.decode()} {request.path.decode()}"
        body = request.content.read()
        status, answer = self._answer(route, msgspec.json.decode(body) if body else None)
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        return msgspec.json.encode(answer)

    def _answer(self, route: str, body: Any) -> tuple[int, dict[str, Any]]:
        match route.split("/"):
            case ["GET ", "status"]:
                wanted = self.layout.init_request()
                seen = {"primary": "Server0", "doing": "", "replicas": [{"state": "serving"}]}
                shards = [{**shard, **seen} for shard in wanted["shards"]]
                who = {"server_states": self.states, "cluster_id": "c1"}
                return 200, {**wanted, **who, "shards": shards, "operation": None}
            case ["GET ", "healthz" | "readyz" | "heartbeat"]:
                return 200, {"status": "success"}
            case ["GET ", "primary_elect"]:
                return 200, {**{shard.name: "Server0" for shard in self.layout.shards}, "status": "success"}
            case ["POST ", "write"]:
                return self._write(body["data"])
            case ["PUT ", "update"]:
                return self._update(body["Stud_id"], body["data"])
            case ["POST ", "read"]:
                return 200, self._read(body["Stud_id"]["low"], body["Stud_id"]["high"])
            case ["DELETE ", "del"]:
                return self._delete(body["Stud_id"])
            case [_, "add" | "rm"] if self.resizes:
                return self._resize(body)
            case ["GET ", "read", server]:
                return 200, {**self.stray.get(server, self._held(server)), "status": "success"}
        return 404, {"status": "failure", "code": "unknown_path", "message": f"<Error> {route}"}

    def _write(self, rows: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        new = {row["Stud_id"]: row for row in rows}
        if new.keys() & self.refused or new.keys() & self.rows.keys():
            return 409, {"status": "failure", "code": "duplicate", "message": "<Error>", "applied": "no"}
        self.rows |= {row_id: row for row_id, row in new.items() if row_id not in self.lost}
        return 200, {"message": f"{len(rows)} Data entries added", "status": "success"}

    def _update(self, row_id: int, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if row_id not in self.rows:
            return _NOT_FOUND
        if row_id not in self.lost:
            self.rows[row_id] = {**self.rows[row_id], **data}
        return 200, {"message": f"Data entry for Stud_id: {row_id} updated", "status": "success"}

    def _read(self, low: int, high: int) -> dict[str, Any]:
        held = self.rows if self.old_rows is None else self.old_rows
        rows = [held[row_id] for row_id in range(low, high + 1) if row_id in held]
        return {"shards_queried": ["sh1"], "data": rows, "status": "success"}

    def _delete(self, row_id: int) -> tuple[int, dict[str, Any]]:
        if self.rows.pop(row_id, None) is None:
            return _NOT_FOUND
        message = f"Data entry with Stud_id:{row_id} removed from all replicas"
        return 200, {"message": message, "status": "success"}

    def _resize(self, body: Any) -> tuple[int, dict[str, Any]]:
        """Add a server without shards, or remove those that are named in a list."""
        if "servers" not in body:
            return 400, {"status": "failure", "code": "bad_count", "message": "<Error>"}
        if isinstance(body["servers"], dict):
            servers = {**self.layout.servers, "Server9": ()}
        else:
            servers = {name: held for name, held in self.layout.servers.items() if name not in body["servers"]}
        self.layout = replace(self.layout, servers=servers)
        return 200, {"message": "Add Server:9", "status": "successful"}

    def _held(self, server: str) -> dict[str, list[Any]]:
        shards = {shard.name: shard.ids() for shard in self.layout.shards}
        return {
            name: [row for row_id, row in self.rows.items() if row_id in shards[name]]
            for name in self.layout.servers[server]
        }
