"""Metrics of a server in which everything has happened that is counted."""

from __future__ import annotations

from dataclasses import dataclass

from llmengine.core import Stats
from llmengine.inventory import CacheStats, HotStats, TierStats
from llmengine.metrics import Metrics
from llmengine.usage import DeviceUsage, ProcessUsage


@dataclass(frozen=True)
class Family:
    kind: str
    labels: frozenset[str]


def full_metrics() -> Metrics:
    tier = TierStats(entries=1, bytes=2, pinned=3, max_entries=4, max_bytes=5, evictions={"ttl": 1})
    hot = HotStats(
        entries=1, tokens=2, cells=3, cells_used=4, evictions=5, hits=6, hit_tokens=7, misses=8
    )
    process = ProcessUsage(pid=-1, started=1, cpu_seconds=2, memory_bytes=3, threads=4)
    stats = Stats(finished={"stop": 1}, process=process, devices=(DeviceUsage("CUDA0", 2, 1),))
    metrics = Metrics("m", lambda: stats, lambda: CacheStats(hot=hot, memory=tier, disk=tier))
    metrics.request("/v1/chat/completions", 200, 1)
    metrics.spent("key_1", 2, 1)
    metrics.first_token(1)
    metrics.later_tokens(1, 1)
    metrics.phases(1, 1, 1)
    return metrics


def families() -> dict[str, Family]:
    """All of them by the name that a query has, as documented."""
    found = {}
    for family in full_metrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = Family(family.type, frozenset(labels - {"le"}))
    return found
