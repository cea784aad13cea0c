"""Hosts of their own on one machine: Linux network namespaces, each joined to a router by a veth pair.

    this process (and its clients' addresses) --- router --- host 1
                                                    |------- host 2 ...

Every packet between two places passes the router, which drops what the test wants dropped, by its addresses: so each
direction between each two places can be broken by itself, and neither end is told. Needs root, `ip`, `nft` and
`nsenter`. What was made is removed by `close`, whatever happened in between; nothing else of the machine is touched.

Addresses are of 198.18.0.0/15, which belongs to no network (RFC 2544). Commands take milliseconds each and run in the
reactor's thread, so that a fault is in force when the call returns.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

#: Networks of this kind that may exist on a machine at once, each with its own /24.
_NETWORKS_MAX = 250
#: Hosts of a network: a /30 of its /24 each, of which the first leads to this process and the last 16 are its clients'.
_HOSTS_MAX = 59
_CLIENTS_MAX = 16
_FIRST_CLIENT = 240

#: The place of this process itself, as far as it has no client's address.
HERE = "here"


class NamespacesUnavailable(Exception):
    """Network namespaces can't be made by this process; the text says why."""


class Namespaces:
    """One network. `open` makes it, `add_host` and `add_client` its places, `lose` breaks it, `close` removes it."""

    def __init__(self) -> None:
        self._name = ""
        self._number = 0
        self._namespaces: list[str] = []
        self._addresses: dict[str, str] = {}
        self._hosts: dict[str, str] = {}
        self._clients = 0

    def open(self) -> None:
        """Make the router. Raises NamespacesUnavailable with the reason why that is impossible."""
        self._check()
        self._take_name()
        try:
            self._make_router()
            self._addresses[HERE] = self._address(1)
        except NamespacesUnavailable:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything that was made; processes that still run in it lose their network."""
        namespaces, self._namespaces = self._namespaces, []
        for namespace in reversed(namespaces):
            with suppress(NamespacesUnavailable):
                _run("ip", "netns", "delete", namespace)
        if self._name:
            with suppress(NamespacesUnavailable):  # it went with the router's end
                _run("ip", "link", "delete", self._name)
        self._name = ""
        self._addresses, self._hosts, self._clients = {}, {}, 0

    def add_host(self, name: str) -> str:
        """Make a host; return its address."""
        place = len(self._hosts) + 1
        assert place <= _HOSTS_MAX, f"{place} hosts"
        namespace, inside = f"{self._name}-{place}", f"host{place}"
        address, gateway = self._address(4 * place + 2), self._address(4 * place + 1)
        self._make_namespace(namespace)
        router = self._name
        _run("ip", "-n", router, "link", "add", inside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _run("ip", "-n", router, "address", "add", f"{gateway}/30", "dev", inside)
        _run("ip", "-n", router, "link", "set", inside, "up")
        _run("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        _run("ip", "-n", namespace, "route", "add", "default", "via", gateway)
        self._hosts[name] = namespace
        self._addresses[name] = address
        return address

    def add_client(self, name: str) -> str:
        """Give this process another address, which counts as a place of its own; return it."""
        assert self._clients < _CLIENTS_MAX, f"{self._clients} clients"
        address = self._address(_FIRST_CLIENT + self._clients)
        self._clients += 1
        _run("ip", "address", "add", f"{address}/32", "dev", self._name)
        _run("ip", "-n", self._name, "route", "add", f"{address}/32", "via", self._address(2))
        self._addresses[name] = address
        return address

    def address(self, name: str) -> str:
        """Return the address of a host or client."""
        return self._addresses[name]

    def command(self, host: str) -> list[str]:
        """Return what stands in front of a command that is to run on a host; it becomes that command (exec)."""
        return _inside(self._hosts[host])

    def lose(self, shares: Mapping[tuple[str, str], float]) -> None:
        """Lose this share (above 0, to 1) of the packets from one place to another, by (source, destination).

        Replaces at once what was lost before; an empty mapping heals everything.
        """
        _run(*_inside(self._name), "nft", "-f", "-", given="\n".join(self._rules(shares.items())))

    # ---- making -----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise NamespacesUnavailable("network namespaces need root")
        for program in ("ip", "nft", "nsenter"):
            if shutil.which(program) is None:
                raise NamespacesUnavailable(f"network namespaces need the program {program}")

    def _take_name(self) -> None:
        """Make the router's namespace, under a name that nobody has: no two can make the same one."""
        for number in range(_NETWORKS_MAX):
            name = f"shardlb{number}"
            try:
                self._make_namespace(name)
            except NamespacesUnavailable as error:
                if "File exists" not in str(error):
                    raise
            else:
                self._name, self._number = name, number
                return
        raise NamespacesUnavailable(f"there are {_NETWORKS_MAX} networks of ours already; `ip netns` shows them")

    def _make_router(self) -> None:
        name, own, gateway = self._name, self._address(1), self._address(2)
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "outside", "netns", name)
        _run("ip", "address", "add", f"{own}/30", "dev", name)
        _run("ip", "link", "set", name, "up")
        _run("ip", "-n", name, "address", "add", f"{gateway}/30", "dev", "outside")
        _run("ip", "-n", name, "link", "set", "outside", "up")
        _run("ip", "route", "add", self._address(0) + "/24", "via", gateway)
        _run(*_inside(name), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.lose({})

    def _make_namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._namespaces.append(name)
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def _address(self, last: int) -> str:
        return f"198.18.{self._number}.{last}"

    def _rules(self, shares: Iterable[tuple[tuple[str, str], float]]) -> Iterable[str]:
        # Declared before it is deleted, so that there always is one to delete; nft does all of it at once.
        yield "table ip breaks"
        yield "delete table ip breaks"
        yield "table ip breaks {"
        yield "chain forward { type filter hook forward priority 0; policy accept;"
        for (source, destination), share in shares:
            chance = "" if share >= 1 else f"numgen random mod 1000 < {max(1, round(share * 1000))} "
            addresses = f"ip saddr {self._addresses[source]} ip daddr {self._addresses[destination]}"
            yield f"{addresses} {chance}drop"
        yield "}"
        yield "}"


def _inside(namespace: str) -> list[str]:
    # Not `ip netns exec`, which also mounts another /sys: who is root in a user namespace only may not.
    return ["nsenter", f"--net=/run/netns/{namespace}"]


def _run(*command: str, given: str = "") -> None:
    done: subprocess.CompletedProcess[str]
    parts: Sequence[str] = command
    try:
        done = subprocess.run(parts, input=given, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NamespacesUnavailable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise NamespacesUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
