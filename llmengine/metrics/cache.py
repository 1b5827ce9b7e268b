"""What the tiers of the prompt cache count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from llmengine.inventory import BOUNDS, CacheStats, Durations, TierStats

# Of the tiers that store states.
CACHE_COUNTERS = {
    "hits": "States taken from a tier of the prompt cache.",
    "hit_tokens": "Prompt tokens of those states that were of use.",
    "misses": "Lookups in a tier that found nothing.",
    "writes": "States stored.",
    "corrupt": "States that did not read back as they were written.",
    "dropped": "States that were not written because too much was waiting.",
    "failures": "Errors of the file system or the database.",
}
CACHE_GAUGES = {
    "entries": "Prompts that a tier of the prompt cache holds.",
    "pinned": "Of those, how many may not leave.",
    "bytes": "What their states take.",
    "max_bytes": "What they may take.",
    "queued_bytes": "States that wait to be written.",
}
CACHE_SECONDS = {
    "saving": ("save", "Time to write a state to disk."),
    "loading": ("load", "Time to read a state from a tier."),
}


class CacheCollector(Collector):
    """Reads them when somebody asks, by tier."""

    def __init__(self, stats: Callable[[], CacheStats | None]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        if stats is None:
            return
        tiers = {"memory": stats.memory, "disk": stats.disk}
        held = {name: tier for name, tier in tiers.items() if tier is not None}
        for name, help in CACHE_COUNTERS.items():
            counter = CounterMetricFamily(f"llmengine_cache_{name}", help, labels=["tier"])
            if stats.hot and hasattr(stats.hot, name):
                counter.add_metric(["hot"], getattr(stats.hot, name))
            for tier, counts in held.items():
                counter.add_metric([tier], getattr(counts, name))
            yield counter
        for name, help in CACHE_GAUGES.items():
            gauge = GaugeMetricFamily(f"llmengine_cache_{name}", help, labels=["tier"])
            if stats.hot and name == "entries":
                gauge.add_metric(["hot"], stats.hot.entries)
            for tier, counts in held.items():
                gauge.add_metric([tier], getattr(counts, name))
            yield gauge
        yield _evictions(stats, held)
        for name, (verb, help) in CACHE_SECONDS.items():
            yield _histogram(verb, help, {tier: getattr(held[tier], name) for tier in held})
        yield _histogram("copy", "Time to copy a state out of llama.cpp.", {"": stats.copying})
        help = "Time in which llama.cpp takes a state back."
        yield _histogram("restore", help, {"": stats.restoring})


def _evictions(stats: CacheStats, held: dict[str, TierStats]) -> Metric:
    found = CounterMetricFamily(
        "llmengine_cache_evictions", "Prompts that left a tier.", labels=["tier", "reason"]
    )
    if stats.hot:
        found.add_metric(["hot", "room"], stats.hot.evictions)
    for tier, counts in held.items():
        for reason, count in counts.evictions.items():
            found.add_metric([tier, reason], count)
    return found


def _histogram(verb: str, help: str, tiers: dict[str, Durations]) -> Metric:
    """By tier, or of none where the only tier is ""."""
    labels = [] if "" in tiers else ["tier"]
    found = HistogramMetricFamily(f"llmengine_cache_{verb}_seconds", help, labels=labels)
    for tier, durations in tiers.items():
        totals = accumulate(durations.counts)
        names = [*map(str, BOUNDS), "+Inf"]
        buckets = list(zip(names, totals, strict=True))
        found.add_metric([tier][: len(labels)], buckets, durations.seconds)
    return found
