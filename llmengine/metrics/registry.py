"""How requests went, and what engine, prompt cache and machine count."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder

from llmengine.inventory import CacheStats
from llmengine.metrics.cache import CacheCollector
from llmengine.metrics.engine import EngineCollector, EngineStats
from llmengine.metrics.machine import MachineCollector

# From a GPU's milliseconds to a long prompt on a CPU.
FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BETWEEN_TOKENS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
QUEUE = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """A registry of its own, so that two engines in one process do not mix."""

    def __init__(
        self,
        model: str,
        stats: Callable[[], EngineStats],
        cache: Callable[[], CacheStats | None] = lambda: None,
        restarts: Callable[[], int] = lambda: 0,
    ) -> None:
        """Of `model`, as the server names it."""
        self.registry = CollectorRegistry()
        self._model = model
        self._requests = Counter(
            "llmengine_http_requests",
            "HTTP requests.",
            ["endpoint", "model", "status"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "llmengine_key_tokens",
            "Tokens of the answers to each API key.",
            ["key", "kind", "model"],
            registry=self.registry,
        )
        self._whole = self._histogram(
            "request", "Time from a request's arrival to its last byte.", WHOLE, "endpoint"
        )
        self._first = self._histogram(
            "time_to_first_token", "Time from a request's arrival to its first token.", FIRST_TOKEN
        )
        self._between = self._histogram(
            "inter_token_latency", "Time between two tokens of an answer.", BETWEEN_TOKENS
        )
        self._queue = self._histogram("request_queue", "Time a request waited for a slot.", QUEUE)
        self._prefill = self._histogram(
            "request_prefill", "Time from a request's slot to its first token.", FIRST_TOKEN
        )
        self._decode = self._histogram(
            "request_decode", "Time from a request's first token to its last.", WHOLE
        )
        self.registry.register(EngineCollector(stats, restarts))
        self.registry.register(CacheCollector(cache))
        self.registry.register(MachineCollector(stats))

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, self._model, status).inc()
        self._whole.labels(self._model, endpoint).observe(seconds)

    def spent(self, key: str, prompt: int, completion: int) -> None:
        """Tokens of an answer to an API key, which is told by its id."""
        self._tokens.labels(key, "prompt", self._model).inc(prompt)
        self._tokens.labels(key, "completion", self._model).inc(completion)

    def first_token(self, seconds: float) -> None:
        self._first.labels(self._model).observe(seconds)

    def later_tokens(self, seconds: float, tokens: int) -> None:
        """`tokens` that came together `seconds` after the one before."""
        between = self._between.labels(self._model)
        for _ in range(tokens):
            between.observe(seconds / tokens)

    def phases(self, queued: float, prefill: float, decode: float) -> None:
        """The seconds that an answer spent in each."""
        self._queue.labels(self._model).observe(queued)
        self._prefill.labels(self._model).observe(prefill)
        self._decode.labels(self._model).observe(decode)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that `accept` asks for, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def _histogram(
        self, name: str, help: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"llmengine_{name}_seconds",
            help,
            ["model", *labels],
            buckets=buckets,
            registry=self.registry,
        )
