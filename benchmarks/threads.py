"""Threads that adapt against fixed ones, on a quiet machine and with cores taken by others.

    python -m benchmarks.threads [--shape qwen2.5-0.5b] [--taken 1] [--rounds 5] [--tokens 64]

Each round measures both engines, one after the other. Processes that only count take the cores;
nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from llmengine import hardware
from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.config import Config
from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.sampling import SamplingParams

PROMPT = 32  # tokens


def settings(path: Path, streams: int, threads: int) -> Config:
    return msgspec.convert(
        {
            "model": {"model_path": str(path), "context_size": 8192},
            "server": {"max_concurrent_requests": streams},
            "cache": {"enabled": False},
            "performance": {"threads": threads, "speculation": "off"},
        },
        Config,
    )


def rate(engine: Engine, streams: int, tokens: int) -> float:
    """Tokens per second of all streams together, from the last first token on."""
    outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    params = SamplingParams(max_tokens=tokens, seed=1)
    for stream in range(streams):
        prompt = tuple((stream * 37 + place * 11) % 500 for place in range(PROMPT))
        engine.submit(Request(id=f"{stream}", prompt=prompt, params=params), outputs.put)
    arrived: list[tuple[float, int]] = []
    begun: set[str] = set()
    start, left = 0.0, streams
    while left:
        batch = outputs.get()
        now = time.perf_counter()
        for output in batch:
            if output.request_id not in begun:
                begun.add(output.request_id)
                start = now
            arrived.append((now, output.tokens))
            left -= output.finish_reason is not None
    return sum(count for at, count in arrived if at > start) / (arrived[-1][0] - start)


def _count() -> None:
    while True:
        pass


@contextmanager
def taken(cores: int) -> Iterator[None]:
    """So many cores are busy with something else."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_count, daemon=True) for _ in range(cores)]
    for each in others:
        each.start()
    time.sleep(1)  # until they run
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.join()


def compare(path: Path, streams: int, tokens: int, rounds: int, name: str) -> None:
    with (
        Engine(settings(path, streams, hardware.cores())) as fixed,
        Engine(settings(path, streams, 0)) as adaptive,
    ):
        pairs = []
        for _ in range(rounds + 1):
            pairs.append((rate(fixed, streams, tokens), rate(adaptive, streams, tokens)))
        pairs = pairs[1:]  # the first one warms up
        ratios = [ours / theirs for theirs, ours in pairs]
        fixed_rate, own_rate = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(
            f"{name}, {streams} streams: {own_rate:.1f} tok/s with {adaptive.stats().threads} "
            f"threads at the end, {fixed_rate:.1f} with {fixed.stats().threads} fixed: "
            f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--taken", type=int, default=1, help="cores that others use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "model.gguf", SHAPES[options.shape])
        for streams in options.streams:
            compare(path, streams, options.tokens, options.rounds, "quiet")
            with taken(options.taken):
                name = f"{options.taken} of {hardware.cores()} cores taken"
                compare(path, streams, options.tokens, options.rounds, name)


if __name__ == "__main__":
    main()
