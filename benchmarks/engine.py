"""The engine against a bare loop of `llama_decode` and a sampler, paired in one run.

    python -m benchmarks.engine [--shape qwen2.5-0.5b:q8_0] [--rounds 21] [--tokens 32]

Both sides use one model shape, the same sampler chain and the same threads; each round measures
both, one after the other, so that a machine that slows down slows both. Then it tells what a step
of the engine is made of, with as many streams as `--streams` says.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import llama_cpp
import msgspec

from llmengine.bench import shapes
from llmengine.bench.weights import write
from llmengine.config import Config
from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.llama.choice import Choice
from llmengine.llama.context import Context
from llmengine.llama.model import Model
from llmengine.sampling import SamplingParams

PROMPT = 32  # tokens
# What a step calls of llama.cpp.
PER_STEP = (
    "llama_decode",
    "llama_synchronize",
    "llama_get_logits",
    "llama_token_to_piece",
    "llama_memory_seq_cp",
    "llama_memory_seq_rm",
)
# Random weights choose one of two end tokens among 152k once in a blue moon.
PARAMS = SamplingParams(temperature=0.8, seed=1)


def settings(path: Path, streams: int) -> Config:
    return msgspec.convert(
        {
            "model": {"model_path": str(path), "context_size": 8192},
            "server": {"max_concurrent_requests": streams},
            "cache": {"enabled": False},
        },
        Config,
    )


class Bare:
    """The least that generates: a batch, `llama_decode`, `llama_sampler_sample` per sequence."""

    def __init__(self, path: Path, streams: int, threads: int) -> None:
        config = settings(path, streams)
        self.model = Model(path, config)
        self.context = Context(self.model, config, cells=8192, sequences=streams, threads=threads)
        self.streams = streams

    def run(self, tokens: int) -> float:
        """Generate `tokens` per stream; seconds of the decoding steps."""
        context, batch = self.context, self.context.batch
        context.clear()
        samplers = [_chain(PARAMS) for _ in range(self.streams)]
        newest = [0] * self.streams
        for stream in range(self.streams):
            batch.clear()
            batch.add(stream, 0, prompt(stream), True)
            context.decode()
            newest[stream] = self._sample(samplers[stream], batch.rows - 1)
        started = time.perf_counter()
        for step in range(tokens - 1):
            batch.clear()
            for stream in range(self.streams):
                batch.add(stream, PROMPT + step, (newest[stream],), True)
            context.decode()
            newest = [self._sample(samplers[stream], stream) for stream in range(self.streams)]
        seconds = time.perf_counter() - started
        for each in samplers:
            llama_cpp.llama_sampler_free(each)
        return seconds

    def _sample(self, sampler: Any, row: int) -> int:
        return int(llama_cpp.llama_sampler_sample(sampler, self.context.handle, row))


def _chain(params: SamplingParams) -> Any:
    """llama.cpp's own samplers for `params`."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for each in (
        llama_cpp.llama_sampler_init_top_k(params.top_k),
        llama_cpp.llama_sampler_init_top_p(params.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(params.min_p, 1),
        llama_cpp.llama_sampler_init_temp(params.temperature),
        llama_cpp.llama_sampler_init_dist(params.seed),
    ):
        llama_cpp.llama_sampler_chain_add(chain, each)
    return chain


class Ours:
    def __init__(self, path: Path, streams: int) -> None:
        self.engine = Engine(settings(path, streams))
        self.streams = streams

    @property
    def threads(self) -> int:
        return self.engine.info().threads

    def run(self, tokens: int) -> float:
        """Generate `tokens` per stream; seconds from the last first token to the end."""
        outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        arrived: dict[str, list[float]] = {}
        params = msgspec.structs.replace(PARAMS, max_tokens=tokens, logprobs=None)
        for stream in range(self.streams):
            name = f"s{stream}"
            arrived[name] = []
            request = Request(id=name, prompt=tuple(prompt(stream)), params=params, special=True)
            self.engine.submit(request, outputs.put)
        left = self.streams
        counted = dict.fromkeys(arrived, 0)
        while left:
            batch = outputs.get()
            now = time.perf_counter()
            for output in batch:
                counted[output.request_id] += output.tokens
                arrived[output.request_id] += [now] * output.tokens
                left -= output.finish_reason is not None
        return max(times[-1] for times in arrived.values()) - max(
            times[0] for times in arrived.values()
        )


def prompt(stream: int) -> list[int]:
    return [(stream * 37 + place * 11) % 500 for place in range(PROMPT)]


def paired(path: Path, streams: int, tokens: int, rounds: int) -> None:
    ours = Ours(path, streams)
    bare = Bare(path, streams, ours.threads)
    ours.run(8), bare.run(8)  # warm up
    ratios, speeds = [], []
    for _ in range(rounds):
        reference = bare.run(tokens)
        engine = ours.run(tokens)
        ratios.append(reference / engine)
        speeds.append(streams * (tokens - 1) / engine)
    ours.engine.close()
    bare.context.close()
    print(
        f"{streams:>2} streams: {statistics.median(speeds):8.1f} tok/s, "
        f"{statistics.median(ratios):.3f} of the bare loop "
        f"(of {rounds} rounds: {min(ratios):.3f} to {max(ratios):.3f})"
    )


def parts(path: Path, streams: int, tokens: int) -> None:
    """What a step of `streams` decoding sequences is made of.

    Choosing tokens is told apart: it is work over the vocabulary, whoever does it.
    """
    ours = Ours(path, streams)
    # As on a server that has been up for a while, its tokens were met before: the sizes of prefill
    # chunks, and with them the tokens, repeat from the second run on.
    for _ in range(2):
        ours.run(tokens)
    runner, running = ours.engine._runner, ours.engine._scheduler.running
    spent = dict.fromkeys(("llama.cpp", "choosing"), 0.0)  # seconds of this step
    steps: list[dict[str, float]] = []

    def timed(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            started = time.perf_counter()
            result = function(*args)
            spent[kind] += time.perf_counter() - started
            return result

        return wrapper

    def measured(step: Callable[[], Any] = runner.step) -> Any:
        spent.update(dict.fromkeys(spent, 0.0))
        full = len(running) == streams
        started = time.perf_counter()
        result = step()
        if full and len(running) == streams:
            seconds = time.perf_counter() - started
            steps.append({"step": seconds, "else": seconds - sum(spent.values()), **spent})
        return result

    with ExitStack() as stack:
        for name in PER_STEP:
            replaced = timed(getattr(llama_cpp, name), "llama.cpp")
            stack.enter_context(mock.patch.object(llama_cpp, name, replaced))
        replaced = timed(Choice.draw, "choosing")
        stack.enter_context(mock.patch.object(Choice, "draw", replaced))
        stack.enter_context(mock.patch.object(runner, "step", measured))
        ours.run(tokens)
    ours.engine.close()
    ms = {part: 1000 * statistics.median(each[part] for each in steps) for part in steps[0]}
    print(
        f"{streams} streams: a step of {ms['step']:.2f} ms, of which llama.cpp takes "
        f"{ms['llama.cpp']:.2f}, choosing the tokens {ms['choosing']:.2f}, and all else that the "
        f"engine does {ms['else']:.3f} (medians of {len(steps)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="qwen2.5-0.5b:q8_0")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--streams", type=int, nargs="+", default=[16])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name, shape, kind = shapes.parse(arguments.shape)
        path = write(Path(folder) / "model.gguf", shape, kind)
        print(f"{name} in {kind}, random weights")
        for streams in (1, 8):
            paired(path, streams, arguments.tokens, arguments.rounds)
        for streams in arguments.streams:
            parts(path, streams, arguments.tokens)


if __name__ == "__main__":
    main()
