"""What the engine counts, read when somebody asks, so that counting costs it nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmengine.usage import DeviceUsage, ProcessUsage

COUNTERS = {
    "requests": "Requests that the engine took.",
    "steps": "Steps of the engine.",
    "prompt_tokens": "Prompt tokens of all requests.",
    "prefilled_tokens": "Prompt tokens that were computed.",
    "cached_tokens": "Prompt tokens whose KV was reused.",
    "completion_tokens": "Tokens generated.",
    "drafted_tokens": "Tokens computed on a guess.",
    "accepted_tokens": "Of those, the right ones.",
    "preemptions": "Running requests put back to waiting for want of KV cells.",
    "evictions": "Finished prompts dropped from the prompt cache.",
    "memory_drops": "Times that caches were dropped to stay under the memory ceiling.",
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
    "memory_headroom_bytes": "Bytes left up to the memory ceiling.",
    "threads": "Threads that compute, of those that may.",
    "load_seconds": "Time that loading the model took.",
}


class EngineStats(Protocol):
    """`llmengine.core.Stats`; what COUNTERS and GAUGES name are attributes of it as well."""

    @property
    def finished(self) -> Mapping[str, int]: ...
    @property
    def process(self) -> ProcessUsage | None: ...
    @property
    def devices(self) -> Sequence[DeviceUsage]: ...


class EngineCollector(Collector):
    def __init__(self, stats: Callable[[], EngineStats], restarts: Callable[[], int]) -> None:
        self._stats = stats
        self._restarts = restarts

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are not asked for while the engine still loads."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, help in COUNTERS.items():
            yield CounterMetricFamily(f"llmengine_{name}", help, getattr(stats, name))
        for name, help in GAUGES.items():
            yield GaugeMetricFamily(f"llmengine_{name}", help, getattr(stats, name))
        finished = CounterMetricFamily(
            "llmengine_finished", "Requests of the engine by how they ended.", labels=["reason"]
        )
        for reason, count in stats.finished.items():
            finished.add_metric([reason], count)
        yield finished
        help = "Engines that were lost and started anew."
        yield CounterMetricFamily("llmengine_engine_restarts", help, self._restarts())
