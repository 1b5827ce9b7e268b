"""Time to first token by where a prompt's prefix is, paired in one run.

    python -m benchmarks.cache [--rounds 3] [--prefixes 500,2000,6000] [--model FILE] [--json]

Each prompt is a prefix and 20 tokens of its own, on a model of Qwen2.5-0.5B's shape with random
weights. In each round it is computed, then found in its slot, in memory, on disk, and on disk by
another engine, for which the files are dropped from the page cache: it reads them from the device.
An engine is used once before it is measured, so that no page of the model is met for the first
time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.cache_states import uncache
from benchmarks.report import report, right
from benchmarks.requests import prompt, request, run, settle
from llmengine.bench.report import Spread
from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.cli.table import Column
from llmengine.config import Config
from llmengine.engine.engine import Engine

OWN = 20  # tokens after the prefix
CELLS = 16_384


class Start(Struct, frozen=True):
    """How a request began."""

    seconds: float  # until its first token
    step: float  # of those, in llama.cpp's last step
    steps: int
    prefilled: int  # tokens


class Row(Struct, frozen=True):
    prefix: int  # tokens
    source: str
    seconds: Spread
    of_cold: Spread  # by round
    beside_step: Spread  # seconds outside the last step
    steps: int
    prefilled: int


Found = dict[tuple[int, str], list[Start]]


class Bench:
    """An engine whose prompts can be moved from tier to tier."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.folder = folder
        self.config = msgspec.convert(
            {
                "model": {"model_path": str(model), "context_size": CELLS},
                "server": {"max_concurrent_requests": 4},
                "cache": {"path": str(folder), "max_size_mb": 4096},
            },
            Config,
        )
        self.random = np.random.default_rng()
        self.open()

    def open(self) -> None:
        self.engine = Engine(self.config)
        self.vocabulary = self.engine.info().vocabulary
        run(self.engine, [request(self.tokens(OWN))])

    def tokens(self, length: int) -> tuple[int, ...]:
        return prompt(self.random, length, self.vocabulary)

    def start(self, prefix: Sequence[int]) -> Start:
        """Send a prompt with that prefix and wait for its first token."""
        before = self.engine.stats()
        seconds = run(self.engine, [request((*prefix, *self.tokens(OWN)))])
        after = self.engine.stats()
        steps, prefilled = (
            after.steps - before.steps,
            after.prefilled_tokens - before.prefilled_tokens,
        )
        return Start(seconds, after.last_step_seconds, steps, prefilled)

    def leave_slots(self) -> None:
        settle(self.engine)
        self.engine._empty_slots()

    def leave_memory(self) -> None:
        self.leave_slots()
        assert self.engine._cache is not None
        assert self.engine._cache.memory is not None
        self.engine._cache.memory.clear()

    def restart(self) -> None:
        self.engine.close()
        uncache(self.folder)
        self.open()

    def clear(self) -> None:
        control = self.engine.cache()
        assert control is not None
        control.clear()


def measure(bench: Bench, lengths: Sequence[int], found: Found) -> None:
    """One round."""
    prefixes = {length: bench.tokens(length) for length in lengths}
    for length, prefix in prefixes.items():
        found[length, "cold"].append(bench.start(prefix))
        settle(bench.engine)
        found[length, "slot"].append(bench.start(prefix))
        bench.leave_slots()
        found[length, "memory"].append(bench.start(prefix))
        bench.leave_memory()
        found[length, "disk"].append(bench.start(prefix))
        bench.leave_memory()
    bench.restart()
    for length, prefix in prefixes.items():
        found[length, "disk, restarted"].append(bench.start(prefix))
        bench.leave_slots()
    bench.clear()


def rows(found: Found) -> list[Row]:
    made = []
    for (length, source), starts in found.items():
        cold = found[length, "cold"]
        made.append(
            Row(
                prefix=length,
                source=source,
                seconds=Spread.of([each.seconds for each in starts]),
                of_cold=Spread.of(
                    [each.seconds / base.seconds for each, base in zip(starts, cold, strict=True)]
                ),
                beside_step=Spread.of([each.seconds - each.step for each in starts]),
                steps=max(each.steps for each in starts),
                prefilled=max(each.prefilled for each in starts),
            )
        )
    return sorted(made, key=lambda row: row.prefix)


COLUMNS = [
    right("prefix", lambda row: row.prefix),
    Column("from", lambda row: row.source),
    right("TTFT, ms", lambda row: row.seconds.worded(1e-3)),
    right("cold is times as long", lambda row: f"{1 / row.of_cold.median:.1f}"),
    right("prefilled", lambda row: row.prefilled),
    right("steps", lambda row: row.steps),
    right(
        "beside the step, ms",
        lambda row: row.beside_step.worded(1e-3) if row.steps == 1 else None,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefixes", default="500,2000,6000")
    parser.add_argument("--model", type=Path, help="GGUF file; otherwise one is made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lengths = [int(each) for each in arguments.prefixes.split(",")]
    found: Found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.gguf"
        model = arguments.model or write(made, SHAPES["qwen2.5-0.5b"])
        bench = Bench(model, Path(folder) / "states")
        for _ in range(arguments.rounds):
            measure(bench, lengths, found)
        bench.engine.close()
    report(rows(found), COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
