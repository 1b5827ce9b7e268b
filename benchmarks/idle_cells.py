"""What the cells of idle slots cost those who run: attention passes by them in every step.

    python -m benchmarks.idle_cells [--cells 0,1024,2048,4096,8192,16384] [--rounds 9]
                                    [--flash-attention auto|off] [--model FILE] [--json]

A model of Qwen2.5-0.5B's shape with random weights decodes and prefills beside so many cells.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.report import report, right
from llmengine import hardware
from llmengine.bench.report import Spread
from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.config import Config
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

STREAMS, OWN = 8, 50  # and tokens of each
PROMPT = 512  # tokens
IDLE = 512  # cells of an idle sequence
STEPS = 5  # of decoding in a round

Times = dict[str, list[float]]  # ms, of all rounds


class Row(Struct, frozen=True):
    cells: int
    one: Spread  # ms of a step of one stream
    eight: Spread
    prefill: Spread  # ms of a prompt


class Machine:
    """A context with idle sequences in it, all of the same state."""

    def __init__(self, path: Path, most: int, flash_attention: str) -> None:
        idle = most // IDLE
        cells, sequences = most + 2048, STREAMS + idle
        model = {"model_path": str(path), "context_size": cells, "flash_attention": flash_attention}
        config = msgspec.convert(
            {"model": model, "server": {"max_concurrent_requests": min(sequences, 128)}}, Config
        )
        self._context = Context(
            Model(path, config), config, cells=cells, sequences=sequences, threads=hardware.cores()
        )
        self._prefill(0, IDLE)
        self._state = np.empty(self._context.state_size(0), np.uint8)
        assert self._context.save(0, self._state)

    def beside(self, cells: int, times: Times) -> None:
        """One round beside so many cells."""
        self._context.clear()
        for number in range(cells // IDLE):
            assert self._context.load(STREAMS + number, self._state)
        times["one"] += self._decode(1)
        times["eight"] += self._decode(STREAMS)
        times["prefill"].append(1000 * self._prefill(0, PROMPT))

    def _decode(self, streams: int) -> Iterator[float]:
        for stream in range(streams):
            self._prefill(stream, OWN)
        for step in range(STEPS):
            self._context.batch.clear()
            for stream in range(streams):
                self._context.batch.add_row(stream, OWN + step, 100 + stream)
            yield 1000 * self._compute()
        for stream in range(streams):
            self._context.remove(stream)

    def _prefill(self, sequence: int, tokens: int) -> float:
        """Seconds that a prompt takes, which is forgotten unless it is one of those that stay."""
        self._context.remove(sequence)
        seconds = 0.0
        for start in range(0, tokens, PROMPT):
            part = range(100 + start, 100 + min(tokens, start + PROMPT))
            self._context.batch.clear()
            self._context.batch.add(sequence, start, part, True)
            seconds += self._compute()
        return seconds

    def _compute(self) -> float:
        started = time.perf_counter()
        assert self._context.decode() is Status.OK
        self._context.logits(1)  # waits for it
        return time.perf_counter() - started


COLUMNS = [
    right("cells of idle slots", lambda row: row.cells),
    right("a step of 1, ms", lambda row: row.one.worded(1, 1)),
    right(f"a step of {STREAMS}, ms", lambda row: row.eight.worded(1, 1)),
    right(f"a prompt of {PROMPT}, ms", lambda row: row.prefill.worded()),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--cells", default="0,1024,2048,4096,8192,16384", help=f"multiples of {IDLE}"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--flash-attention", choices=("auto", "off"), default="auto")
    parser.add_argument("--model", type=Path, help="instead of random weights")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    points = [int(each) for each in given.cells.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        path = given.model or write(Path(folder) / "m.gguf", SHAPES["qwen2.5-0.5b"], "q8_0")
        machine = Machine(path, max(points), given.flash_attention)
        times: dict[int, Times] = {each: defaultdict(list) for each in points}
        for _ in range(given.rounds):
            for each in random.sample(points, len(points)):
                machine.beside(each, times[each])
    rows = [
        Row(each, **{key: Spread.of(found) for key, found in times[each].items()})
        for each in points
    ]
    report(rows, COLUMNS, as_json=given.json)


if __name__ == "__main__":
    main()
