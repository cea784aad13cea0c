"""POST /config: who may tell this server what to hold, and what that means.

A managed server obeys its cluster's balancer, which signs what it says; to anyone else it only confirms what is so
already. A server alone obeys everyone: each shard becomes a group of one, whose only replica is here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dbnode.client.signature import is_signed
from dbnode.errors import ApiError
from dbnode.host import Host
from dbnode.jsonhttp import fields, need
from dbnode.schema import Schema, schema_from_json
from dbnode.wire import GroupConfig, ManagedConfig

PATH = "/config"


class Configuring:
    """The configuration of one server.

    `secret` is the cluster's, None for a server alone; `schema` is used where a request to a server alone has none.
    """

    def __init__(self, host: Host, secret: bytes | None, schema: Schema | None) -> None:
        self._host = host
        self._secret = secret
        self._schema = schema

    @property
    def server(self) -> str:
        """The server's name."""
        return self._host.identity.name

    @property
    def quarantined(self) -> list[str]:
        """The replicas that were lost here, with the reasons."""
        return list(self._host.quarantined.values())

    async def configure(self, authorization: bytes | None, body: bytes, told: dict[str, Any]) -> list[str]:
        """Make it so and return the shards named, once that is durable.

        Raises ApiError: what dbnode.host refuses, `bad_signature` (401), `already_configured` (409), `bad_config`.
        """
        given = fields(told, "schema", "shards", "cluster")
        if "cluster" in given:
            self._check_signature(authorization, body)
            return await self._managed(_schema(given, None), _cluster(given["cluster"]))
        schema = _schema(given, self._host.schema or self._schema)
        shards = _shards(need(given, "shards"))
        if self._host.identity.cluster_id:
            self._confirm(schema, shards)
        else:
            await self._alone(schema, shards)
        return shards

    def _check_signature(self, authorization: bytes | None, body: bytes) -> None:
        if self._secret is None:
            raise ApiError("already_configured", "this server belongs to no cluster; leave out 'cluster'", status=409)
        if not is_signed(self._secret, "POST", PATH, body, authorization):
            raise ApiError("bad_signature", "the request is not signed with the cluster's secret", status=401)

    async def _managed(self, schema: Schema, cluster: ManagedConfig) -> list[str]:
        await self._host.configure(schema, cluster)
        return [group.shard for group in cluster.groups]

    def _confirm(self, schema: Schema, shards: list[str]) -> None:
        held = sorted(self._host.groups)
        if schema != self._host.schema or sorted(shards) != held:
            text = f"a balancer manages this server, which has {', '.join(held) or 'no shards'}; ask the balancer"
            raise ApiError("already_configured", text, status=409)

    async def _alone(self, schema: Schema, shards: list[str]) -> None:
        host = self._host
        if host.schema not in (None, schema):
            raise ApiError("already_configured", "this server has shards with another schema", status=409)
        groups = list(host.groups.values())
        for shard in shards:
            if shard not in host.groups:
                number = len(groups) + 1
                groups.append(GroupConfig(number, shard, {str(number): self.server}, [number]))
        version = host.config.cluster.version + 1 if host.config is not None else 1
        await host.configure(schema, ManagedConfig("", version, self.server, groups, {}))


def _schema(given: dict[str, Any], default: Schema | None) -> Schema:
    if default is not None and "schema" not in given:
        return default
    return schema_from_json(need(given, "schema"))


def _shards(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(shard, str) and shard for shard in value):
        raise ApiError("bad_config", 'shards must be a list of names, such as ["sh1", "sh2"]')
    if len(set(value)) != len(value):
        raise ApiError("bad_config", "a shard is named twice; names must differ")
    if "status" in value:
        raise ApiError("bad_config", "a shard cannot be called status: answers have a field of that name")
    return value


def _cluster(value: Any) -> ManagedConfig:
    try:
        cluster = msgspec.convert(value, ManagedConfig)
        for group in cluster.groups:
            _check_group(group)
    except (ValueError, RecursionError) as error:  # ValueError: what msgspec refuses, and what we do
        raise ApiError("bad_config", f"'cluster' is not as it must be: {error}") from error
    return cluster


def _check_group(group: GroupConfig) -> None:
    for replica_id in group.replicas:
        int(replica_id)
    if not group.voters:
        raise ValueError(f"group {group.group_id} begins without voters")
