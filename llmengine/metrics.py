"""What Prometheus may read: how requests went, and what engine and prompt cache count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from llmengine.inventory import BOUNDS, CacheStats, Durations, TierStats

# From a GPU's milliseconds to a long prompt on a CPU.
FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BETWEEN_TOKENS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
QUEUE = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

COUNTERS = {
    "steps": "Steps of the engine.",
    "prompt_tokens": "Prompt tokens of all requests.",
    "prefilled_tokens": "Prompt tokens that were computed.",
    "cached_tokens": "Prompt tokens whose KV was reused.",
    "completion_tokens": "Tokens generated.",
    "preemptions": "Running requests put back to waiting for want of KV cells.",
    "evictions": "Finished prompts dropped from the prompt cache.",
    "prefill_seconds": "Seconds spent in steps with prefill.",
    "decode_seconds": "Seconds spent in steps that only decode.",
}
GAUGES = {
    "running": "Requests being computed.",
    "waiting": "Requests in the queue.",
    "slots": "Requests that can run at once.",
    "slots_idle": "Slots that keep a finished prompt.",
    "cells": "Tokens that the KV cache can hold.",
    "cells_used": "Tokens that the KV cache holds.",
    "cache_hit_rate": "Share of prompt tokens that was reused.",
    "last_step_seconds": "Duration of the last step.",
}
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


class Metrics:
    """A registry of its own, so that two engines in one process do not mix."""

    def __init__(
        self,
        stats: Callable[[], object],
        cache: Callable[[], CacheStats | None] = lambda: None,
    ) -> None:
        """`stats` gives an object with the attributes in COUNTERS and GAUGES and `finished`."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "llmengine_http_requests",
            "HTTP requests.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self._whole = Histogram(
            "llmengine_request_seconds",
            "Time from a request's arrival to its last byte.",
            ["endpoint"],
            buckets=WHOLE,
            registry=self.registry,
        )
        self._first = self._histogram(
            "time_to_first_token", "Time from a request's arrival to its first token.", FIRST_TOKEN
        )
        self._between = self._histogram(
            "inter_token_latency", "Time between two tokens of an answer.", BETWEEN_TOKENS
        )
        self._queue = self._histogram("queue", "Time a request waited for a slot.", QUEUE)
        self.registry.register(_EngineCollector(stats))
        self.registry.register(_CacheCollector(cache))

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, status).inc()
        self._whole.labels(endpoint).observe(seconds)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def later_tokens(self, seconds: float, tokens: int) -> None:
        """`tokens` that came together `seconds` after the one before."""
        for _ in range(tokens):
            self._between.observe(seconds / tokens)

    def queued(self, seconds: float) -> None:
        self._queue.observe(seconds)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that `accept` asks for, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"llmengine_{name}_seconds", help, buckets=buckets, registry=self.registry)


class _EngineCollector(Collector):
    """Reads the engine's counters when somebody asks, so that counting costs it nothing."""

    def __init__(self, stats: Callable[[], object]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are not asked for while the engine still loads."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, help in COUNTERS.items():
            counter = CounterMetricFamily(f"llmengine_{name}", help)
            counter.add_metric([], getattr(stats, name))
            yield counter
        for name, help in GAUGES.items():
            gauge = GaugeMetricFamily(f"llmengine_{name}", help)
            gauge.add_metric([], getattr(stats, name))
            yield gauge
        finished = CounterMetricFamily(
            "llmengine_finished", "Requests of the engine by how they ended.", labels=["reason"]
        )
        for reason, count in getattr(stats, "finished", {}).items():
            finished.add_metric([reason], count)
        yield finished


class _CacheCollector(Collector):
    """The same for the prompt cache, by tier."""

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
