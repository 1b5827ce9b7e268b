"""The least time in which llama.cpp alone computes the rows of a comparison.

    python -m benchmarks.limits [ROW ...] [--rounds 3]

No server, no scheduler, no choice of tokens and nothing to wait for: what prompts have in common
once, the rest of them in full batches, then a row of each stream in each step. Whatever a row of
`benchmarks.peers` takes more than that is the engine's, the server's and the clients'; nothing that
computes these rows with this build of llama.cpp takes less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.peer_rows import HALF_B, LARGE_VOCABULARY
from llmengine import hardware
from llmengine.bench import shapes, weights
from llmengine.config import Config
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

CELLS = 16_384
BATCH = 512  # rows


class Workload(Struct, frozen=True, kw_only=True):
    requests: int
    at_once: int
    own: int  # tokens of each prompt
    output: int  # tokens of each answer
    common: int = 0  # tokens that all prompts begin with
    batch: int = BATCH  # rows of prompts in one step
    beside: bool = False  # whether a stream runs meanwhile
    shape: str = HALF_B


WORKLOADS = {
    "eight": Workload(requests=16, at_once=8, own=205, output=48),
    "prefix": Workload(requests=16, at_once=8, own=40, output=48, common=1308),
    "clients": Workload(requests=128, at_once=32, own=17, output=32, shape=LARGE_VOCABULARY),
    "long-prompt": Workload(requests=1, at_once=1, own=3200, output=1),
    "long-prompt by 63": Workload(requests=1, at_once=1, own=3200, output=1, batch=63, beside=True),
    "long-prompt by 32": Workload(requests=1, at_once=1, own=3200, output=1, batch=32, beside=True),
}

Row = tuple[int, int, bool]  # sequence, position, and whether it has an output


class Bare:
    """A context, and the rows of a workload."""

    def __init__(self, model: Model, config: Config, workload: Workload) -> None:
        self._workload = workload
        self._context = Context(
            model, config, cells=CELLS, sequences=workload.at_once + 2, threads=hardware.cores()
        )
        self._shared, self._stream = workload.at_once, workload.at_once + 1
        self._written = 0  # tokens of the stream beside

    def close(self) -> None:
        self._context.close()

    def run(self) -> float:
        """Seconds from the first row to the last."""
        wanted = self._workload
        self._context.clear()
        self._written = 0
        started = time.perf_counter()
        self._prompts([self._shared], 0, wanted.common)
        for _ in range(wanted.requests // wanted.at_once):
            sequences = range(wanted.at_once)
            for each in sequences:
                self._context.remove(each)
                if wanted.common:
                    self._context.copy(self._shared, each, wanted.common)
            prompt = wanted.common + wanted.own
            self._prompts(sequences, wanted.common, prompt)
            for step in range(prompt, prompt + wanted.output - 1):
                self._compute([(each, step, True) for each in sequences])
        return time.perf_counter() - started

    def _prompts(self, sequences: Sequence[int], start: int, end: int) -> None:
        """Tokens `start` to `end` of each, those of several in one batch."""
        rows = iter([(each, at, at == end - 1) for each in sequences for at in range(start, end)])
        while batch := list(islice(rows, self._workload.batch)):
            self._compute(batch + list(self._beside()))

    def _beside(self) -> Iterator[Row]:
        if self._workload.beside:
            yield self._stream, self._written, True
            self._written += 1

    def _compute(self, rows: Sequence[Row]) -> None:
        batch = self._context.batch
        batch.clear()
        for sequence, position, output in rows:
            batch.add(sequence, position, ((sequence * 37 + position * 11) % 500,), output)
        assert self._context.decode() is Status.OK


def measure(path: Path, workload: Workload, rounds: int) -> list[float]:
    settings = {"model": {"model_path": str(path), "context_size": CELLS}}
    config = msgspec.convert(settings, Config)
    model = Model(path, config)
    bare = Bare(model, config, workload)
    try:
        return [bare.run() for _ in range(rounds + 1)][1:]  # the first one warms up
    finally:
        bare.close()
        model.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.rows or WORKLOADS:
            workload = WORKLOADS[name]
            _, shape, quantization = shapes.parse(workload.shape)
            path = Path(folder) / f"{workload.shape.replace(':', '-')}.gguf"
            if not path.exists():
                weights.write(path, shape, quantization)
            seconds = measure(path, workload, arguments.rounds)
            written = workload.requests * workload.output
            print(
                f"{name:<18} {statistics.median(seconds):6.2f} s "
                f"({min(seconds):.2f} to {max(seconds):.2f}), "
                f"{written / statistics.median(seconds):.0f} tok/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
