"""What a JSON schema costs: tokens per second of streams that follow one against free ones."""

from __future__ import annotations

import argparse
import queue
import statistics
import tempfile
import time
from pathlib import Path

from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.config import CacheConfig, Config, ModelConfig, ServerConfig
from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.sampling import Constraint, SamplingParams

# Integers without end: a model of random weights would hardly end a string.
SCHEMA = '{"type": "array", "items": {"type": "integer"}, "minItems": 100000}'


def rate(engine: Engine, streams: int, tokens: int, constraint: Constraint | None) -> float:
    """Tokens per second of all streams together."""
    outputs: queue.SimpleQueue = queue.SimpleQueue()
    params = SamplingParams(max_tokens=tokens, seed=1, constraint=constraint)
    started = time.perf_counter()
    for number in range(streams):
        request = Request(
            id=f"{number}", prompt=tuple(range(40, 56)), params=params, cache_salt=str(number)
        )
        engine.submit(request, outputs.put)
    left = streams
    count = 0
    while left:
        for output in outputs.get():
            count += output.tokens
            left -= output.finish_reason is not None
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="tiny-152k")
    parser.add_argument("--model", type=Path, help="a GGUF file in place of a random one")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or write(Path(folder) / "model.gguf", SHAPES[options.shape])
        config = Config(
            model=ModelConfig(model_path=str(path), context_size=8192),
            server=ServerConfig(max_concurrent_requests=options.streams),
            cache=CacheConfig(enabled=False),
        )
        held = Constraint("json_schema", SCHEMA)
        with Engine(config) as engine:
            started = time.perf_counter()
            rate(engine, 1, 1, held)
            print(f"first request with a schema: {time.perf_counter() - started:.2f} s")
            pairs = [
                [rate(engine, options.streams, options.tokens, each) for each in (None, held)]
                for _ in range(options.rounds)
            ]
    free, formed = (statistics.median(column) for column in zip(*pairs, strict=True))
    cost = statistics.median(1 - held / free for free, held in pairs)
    print(f"{options.streams} streams: {free:.0f} tok/s free, {formed:.0f} by a schema")
    print(f"cost, median of {options.rounds} pairs: {cost:.1%}")


if __name__ == "__main__":
    main()
