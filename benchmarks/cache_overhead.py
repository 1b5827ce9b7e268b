"""What the prompt cache costs when nothing ever hits, paired in one run.

    python -m benchmarks.cache_overhead [--rounds 4] [--model FILE] [--json]

An engine with all tiers and one without any cache serve the same requests, four at a time, none of
which begins like another: an even number of rounds, in which the two take turns to be first. The
KV cache holds no more than what runs, so that every state is copied out while others run, and
memory holds few, so that it gives some up for each. The queue is never empty. Beside the
throughput, what the cache does on the engine's thread is timed, and on its own, until all is saved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.report import report, right
from benchmarks.requests import prompt, request, run, settle
from llmengine.bench.report import Spread
from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.cli.table import Column
from llmengine.config import Config
from llmengine.engine.engine import Engine

REQUESTS, AT_ONCE = 12, 4
PROMPT, COMPLETION = 200, 24  # tokens
CELLS = 1_024
MEMORY = 16  # MiB


class Row(Struct, frozen=True):
    what: str
    share: Spread  # of the time without a cache, by round


def engine(model: Path, folder: Path, *, cached: bool) -> Engine:
    cache = {"enabled": cached, "path": str(folder), "max_size_mb": MEMORY}
    options = {
        "model": {"model_path": str(model), "context_size": CELLS},
        "server": {"max_concurrent_requests": AT_ONCE},
        "cache": cache,
    }
    return Engine(msgspec.convert(options, Config))


class Watch:
    """Seconds that an engine's cache takes, on the engine's thread and on its writer's."""

    def __init__(self, watched: Engine) -> None:
        self.engine_seconds = self.writer_seconds = 0.0
        keeper, cache = watched._slots._keeper, watched._cache
        assert keeper is not None
        assert cache is not None
        assert cache.disk is not None
        self._engine, self._writer = watched, cache.disk._writer
        keeper.find = self._timed(keeper.find)  # type: ignore[method-assign]
        keeper.save = self._timed(keeper.save)  # type: ignore[method-assign]

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **named)
            self.engine_seconds += time.perf_counter() - started
            return result

        return wrapper

    def reset(self) -> None:
        self.engine_seconds = 0.0
        self.writer_seconds = -self._writer_cpu()

    def stop(self) -> None:
        settle(self._engine)
        self.writer_seconds += self._writer_cpu()

    def _writer_cpu(self) -> float:
        thread = self._writer._thread
        if not thread or not thread.ident:
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def measure(bare: Engine, cached: Engine, rounds: int) -> list[Row]:
    random, vocabulary = np.random.default_rng(), bare.info().vocabulary
    watch = Watch(cached)
    shares: list[tuple[float, float, float]] = []
    for number in range(-1, rounds):  # the first warms up
        prompts = [prompt(random, PROMPT, vocabulary) for _ in range(REQUESTS)]
        seconds = {}
        for each in (bare, cached) if number % 2 else (cached, bare):
            watch.reset()
            seconds[each] = run(each, [request(tokens, COMPLETION) for tokens in prompts])
            if each is cached:
                watch.stop()
                inside, writing = watch.engine_seconds, watch.writer_seconds
        if number >= 0:
            base = seconds[bare]
            shares.append((seconds[cached] / base - 1, inside / base, writing / base))
    names = ("more time in all", "on the engine's thread", "on the writer's thread (CPU)")
    assert cached.stats().cached_tokens == 0
    return [
        Row(name, Spread.of(column))
        for name, column in zip(names, zip(*shares, strict=True), strict=True)
    ]


COLUMNS = [
    Column("cost of the cache", lambda row: row.what),
    right("% of the time without it", lambda row: row.share.worded(0.01, 2)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--model", type=Path, help="GGUF file; otherwise one is made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.gguf"
        model = arguments.model or write(made, SHAPES["qwen2.5-0.5b"])
        states = Path(folder) / "states"
        with (
            engine(model, states, cached=False) as bare,
            engine(model, states, cached=True) as cached,
        ):
            rows = measure(bare, cached, arguments.rounds)
    report(rows, COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
