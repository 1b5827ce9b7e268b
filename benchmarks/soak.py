"""Whether the prompt cache keeps to its budget of memory, over many requests.

    python -m benchmarks.soak [--requests 2000] [--megabytes 200] [--model FILE] [--json]

Conversations come and go on a model that is small but has large states, so that the budget is
filled many times over. Its books are read after each request; the memory of the process is
sampled meanwhile, and what it has before the first request is taken for the engine's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.report import report, right
from benchmarks.requests import prompt, request, run
from llmengine.bench.shapes import Shape
from llmengine.bench.weights import write
from llmengine.cli.table import number
from llmengine.config import Config
from llmengine.engine.engine import Engine

# Little to compute, and 3 KiB of state for each token: a conversation takes about 1 MB.
SHAPE = Shape(layers=6, width=128, heads=4, kv_heads=4, ffn=64, vocabulary=1024, tied=True)
FIRST, MORE, ANSWER = 160, 60, 2  # tokens of a conversation's first question, of others, of answers
TALKS = 40  # conversations that go on at a time
GOES_ON = 0.8  # of the questions
MEBIBYTE = 2**20


class Sample(Struct, frozen=True):
    requests: int
    seconds: float
    process: int  # bytes of memory that it has
    peak: int  # the most that was seen since the last sample
    booked: int  # bytes, by the cache's books
    entries: int
    evictions: int


class Soak:
    """An engine, the conversations that it has, and what was seen of its memory."""

    def __init__(
        self, model: Path, megabytes: int, folder: Path | None, *, talks: int = TALKS
    ) -> None:
        """`talks` conversations go on at a time; without a folder there is no tier on disk."""
        options = {
            "model": {"model_path": str(model), "context_size": 4096},
            "server": {"max_concurrent_requests": 4},
            "cache": {
                "max_size_mb": megabytes,
                "max_sequences": 4,
                "disk": folder is not None,
                "disk_max_size_mb": 4 * megabytes,
                "path": str(folder or ""),
            },
        }
        self.engine = Engine(msgspec.convert(options, Config))
        self.samples: list[Sample] = []
        self.most = 0  # bytes by the books, at any time
        self._random = np.random.default_rng(0)
        self._vocabulary = self.engine.info().vocabulary
        self._most_talks = talks
        self._talks: list[tuple[int, ...]] = []
        self.requests = 0
        run(self.engine, [request(self._tokens(FIRST), ANSWER) for _ in range(4)])
        self._started = time.perf_counter()

    def _tokens(self, count: int) -> tuple[int, ...]:
        return prompt(self._random, count, self._vocabulary)

    def ask(self) -> None:
        """Four turns of four conversations, at once."""
        prompts = []
        for _ in range(4):
            talk: tuple[int, ...] = ()
            if self._talks and self._random.random() < GOES_ON:
                talk = self._talks.pop(int(self._random.integers(len(self._talks))))
            if len(talk) > 800:
                talk = ()
            prompts.append(talk + self._tokens(MORE if talk else FIRST))
        run(self.engine, [request(tokens, ANSWER) for tokens in prompts])
        self._talks = (self._talks + prompts)[-self._most_talks :]
        self.requests += 4
        self.check()

    def check(self) -> None:
        """Raise AssertionError if the books are wrong or above the budget."""
        cache = self.engine._cache
        assert cache is not None
        assert cache.memory is not None
        cache.memory.check()
        stats = cache.memory.stats()
        self.most = max(self.most, stats.bytes)
        assert stats.bytes <= stats.max_bytes

    def sample(self, peak: int) -> None:
        cache = self.engine._cache
        assert cache is not None
        assert cache.memory is not None
        stats = cache.memory.stats()
        self.samples.append(
            Sample(
                requests=self.requests,
                seconds=time.perf_counter() - self._started,
                process=resident(),
                peak=peak,
                booked=stats.bytes,
                entries=stats.entries,
                evictions=sum(stats.evictions.values()),
            )
        )


def resident() -> int:
    """Bytes of this process's memory that are neither swapped nor a file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell how much memory a process has")


COLUMNS = [
    right("requests", lambda row: number(row.requests)),
    right("seconds", lambda row: f"{row.seconds:.0f}"),
    right("process, MiB", lambda row: f"{row.process / MEBIBYTE:.0f}"),
    right("peak", lambda row: f"{row.peak / MEBIBYTE:.0f}"),
    right("booked", lambda row: f"{row.booked / MEBIBYTE:.0f}"),
    right("entries", lambda row: row.entries),
    right("entries that left", lambda row: number(row.evictions)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--no-disk", action="store_true")
    parser.add_argument("--model", type=Path, help="GGUF file; otherwise one is made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write(Path(folder) / "model.gguf", SHAPE)
        states = None if arguments.no_disk else Path(folder) / "states"
        soak = Soak(model, arguments.megabytes, states)
        soak.sample(resident())
        every, peak = max(4, arguments.requests // 20), 0
        while soak.requests < arguments.requests:
            soak.ask()
            peak = max(peak, resident())
            if soak.requests % every < 4:
                soak.sample(peak)
                peak = 0
        soak.engine.close()
    report(soak.samples, COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
