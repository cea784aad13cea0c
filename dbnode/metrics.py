"""A server's figures in Prometheus' text format, gathered when they are asked for and not while serving."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dbnode.serving import Serving
from raftlog.link.options import LinkCounters
from raftlog.node import Node
from raftlog.wal import Stats, WriteAheadLog


class Metrics:
    """The figures of one server; `links` is None for a server alone."""

    content_type = CONTENT_TYPE_LATEST.encode()

    def __init__(
        self, serving: Serving, node: Node, wal: WriteAheadLog, stats: Stats, links: LinkCounters | None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(serving, node, wal, stats, links))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all figures as they are now."""
        return generate_latest(self._registry)


class _Figures(Collector):
    def __init__(
        self, serving: Serving, node: Node, wal: WriteAheadLog, stats: Stats, links: LinkCounters | None
    ) -> None:
        self._serving = serving
        self._node = node
        self._wal = wal
        self._stats = stats
        self._links = links

    def collect(self) -> Iterator[Metric]:
        """Yield every figure (prometheus_client's word)."""
        yield from self._replicas()
        yield from self._requests()
        yield from self._log()
        if self._links is not None:
            yield from self._traffic(self._links)

    def _replicas(self) -> Iterator[Metric]:
        statuses = self._serving.statuses()
        gauges = {
            "leader": ("1 if this replica leads its group", lambda status: status.role == "leader"),
            "term": ("The replica's term", lambda status: status.term),
            "last_index": ("The last entry in its log", lambda status: status.last_index),
            "commit_index": ("The last entry known to be committed", lambda status: status.commit_index),
            "applied_index": ("The last entry in its store", lambda status: status.applied_index),
            "rows": ("Rows in its store", lambda status: status.row_count),
        }
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(f"shardlb_replica_{name}", text, labels=("shard",))
            for status in statuses:
                shard = self._serving.replicas[status.group_id].shard
                gauge.add_metric((shard,), float(value(status)))
            yield gauge

    def _requests(self) -> Iterator[Metric]:
        serving = self._serving
        yield CounterMetricFamily("shardlb_proposals", "Proposals that came in", value=serving.proposals)
        yield CounterMetricFamily("shardlb_reads", "Reads that came in", value=serving.reads)
        yield CounterMetricFamily("shardlb_tours", "Tours of reads that came by", value=serving.tours)
        refusals = CounterMetricFamily("shardlb_refusals", "Requests refused over links", labels=("code",))
        for code, count in serving.refusals.items():
            refusals.add_metric((code,), count)
        yield refusals
        changes = CounterMetricFamily("shardlb_role_changes", "Role changes of replicas", labels=("role",))
        for role, count in self._node.role_changes.items():
            changes.add_metric((role,), count)
        yield changes
        text = "Raft messages for groups or replicas that are not here"
        yield CounterMetricFamily("shardlb_misdirected_messages", text, value=self._node.misdirected)

    def _log(self) -> Iterator[Metric]:
        stats = self._stats
        yield CounterMetricFamily("shardlb_wal_rounds", "Rounds written and synced", value=stats.rounds)
        yield CounterMetricFamily("shardlb_wal_bytes", "Bytes written", value=stats.bytes)
        yield CounterMetricFamily("shardlb_wal_records", "Records written", value=stats.records)
        yield CounterMetricFamily("shardlb_wal_entries", "Entries written", value=stats.entries)
        yield GaugeMetricFamily("shardlb_wal_segments", "Segment files", value=stats.segments)
        oldest = self._wal.oldest_unsynced_seconds()
        yield GaugeMetricFamily("shardlb_wal_oldest_unsynced_seconds", "Age of the oldest unsynced write", value=oldest)

    def _traffic(self, links: LinkCounters) -> Iterator[Metric]:
        for name in ("frames_sent", "bytes_sent", "frames_received", "bytes_received", "items_dropped"):
            text = name.replace("_", " ").capitalize()
            yield CounterMetricFamily(f"shardlb_link_{name}", text, value=getattr(links, name))
        lost = links.connections_lost
        yield CounterMetricFamily("shardlb_link_connections_lost", "Connections lost", value=lost)
        failed = links.handshakes_failed
        yield CounterMetricFamily("shardlb_link_handshakes_failed", "Handshakes failed", value=failed)
