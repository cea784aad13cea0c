"""Make and renew the certificates of a cluster."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from raftlog.tls.authority import (
    PROCESS_DAYS,
    cluster_id_of,
    ensure,
    has_authority,
    is_due,
    issue,
    make_authority,
    parse_process,
    processes_in,
)
from raftlog.tls.name import TlsRole, TlsUnusable, authorities

_EPILOG = """\
The first run in an empty DIR makes the cluster's authority: ca.pem, and ca.key, which only who makes certificates
needs. A balancer that finds ca.key makes those of its servers itself. ROLE is server, balancer or operator; an
operator's opens the HTTP ports of servers, for metrics, and no links. What is there stays as it is, unless less than
a third of its time is left; running processes take a new one up at their next connection."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if it could not be done."""
    parser = argparse.ArgumentParser(prog="certificates", description=__doc__, epilog=_EPILOG)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the certificates are")
    parser.add_argument("processes", nargs="*", metavar="[ROLE:]NAME", help="whom to make one for; default: a server")
    parser.add_argument("--cluster-id", metavar="ID", help="of a cluster that is there already (DATA/identity.json)")
    parser.add_argument("--days", type=int, default=PROCESS_DAYS, help="how long they are good (default: %(default)s)")
    parser.add_argument("--renew", action="store_true", help="also renew what is there and near its end")
    parser.add_argument("--replace", action="store_true", help="make the named ones anew in any case")
    options = parser.parse_args(arguments)
    if options.days < 1:
        parser.error(f"--days {options.days} is not at least 1")
    try:
        processes = [parse_process(text) for text in options.processes]
        _run(options.directory, processes, options)
    except (TlsUnusable, ValueError, OSError) as error:
        print(f"certificates: {error}", file=sys.stderr)
        return 1
    return 0


def _run(directory: Path, processes: list[tuple[TlsRole, str]], options: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    if not (authorities(directory)).exists():
        make_authority(directory, options.cluster_id or secrets.token_hex(8), now)
        print(f"{directory / 'ca.pem'}: the authority of cluster {cluster_id_of(directory)}")
    elif options.cluster_id not in (None, cluster_id_of(directory)):
        raise TlsUnusable(f"{directory} is for cluster {cluster_id_of(directory)}; take another directory")
    if options.renew and not has_authority(directory):
        raise TlsUnusable(f"{directory / 'ca.key'} is not there, and nothing can be renewed without it")
    if options.renew:
        processes += [(role, name) for role, name, certificate in processes_in(directory) if is_due(certificate, now)]
    for role, name in processes:
        if options.replace:
            issue(directory, role, name, now, options.days)
        made = options.replace or ensure(directory, role, name, now, options.days)
        print(f"{role} {name}: {'made' if made else 'is there already'}")


if __name__ == "__main__":
    sys.exit(main())
