"""Copying states whose cells lie together, and those of streams that decoded beside others.

    python -m benchmarks.scattered [--shape llama-8b:q4_k] [--answer 48,500] [--rounds 5] [--json]

llama.cpp copies each run of cells by itself, keys and values of each layer: on a CPU that costs
nothing, from a GPU some 10 us.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.cache_states import timed
from benchmarks.report import report, right
from llmengine import hardware
from llmengine.bench import shapes
from llmengine.bench.report import Spread
from llmengine.bench.weights import write
from llmengine.cache.entry import new_state
from llmengine.cli.table import Column, size
from llmengine.config import Config
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

PROMPT, STREAMS = 205, 8


class Row(Struct, frozen=True):
    what: str
    bytes: int
    save: Spread  # seconds
    load: Spread


class Copies:
    """A context whose first sequence is copied out, and back into the last."""

    def __init__(self, context: Context, rounds: int) -> None:
        self._context = context
        self._rounds = rounds

    def of_answer(self, tokens: int, streams: int) -> Row:
        """A prompt and so many tokens behind it, decoded together with `streams` - 1 others."""
        self._context.clear()
        for stream in range(streams):
            self._compute([(stream, 0, (7,) * PROMPT)])
        for place in range(PROMPT, PROMPT + tokens):
            self._compute([(stream, place, (7,)) for stream in range(streams)])
        beside = f"beside {streams - 1} others" if streams > 1 else "alone"
        return self._copied(f"a prompt of {PROMPT} tokens and an answer of {tokens} {beside}")

    def _compute(self, parts: list[tuple[int, int, tuple[int, ...]]]) -> None:
        self._context.batch.clear()
        for stream, start, tokens in parts:
            self._context.batch.add(stream, start, tokens, False)
        assert self._context.decode() is Status.OK

    def _copied(self, what: str) -> Row:
        length = self._context.state_size(0)
        saves, loads = [], []
        for _ in range(self._rounds):
            state = new_state(length)
            saves.append(timed(self._context.save, 0, state))
            loads.append(timed(self._context.load, STREAMS, state))
            self._context.remove(STREAMS)
        return Row(what, length, Spread.of(saves), Spread.of(loads))


COLUMNS = [
    Column("what", lambda row: row.what),
    right("state", lambda row: size(row.bytes)),
    right("copy out, ms", lambda row: row.save.worded(1e-3)),
    right("copy back, ms", lambda row: row.load.worded(1e-3)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="qwen2.5-0.5b:q8_0")
    parser.add_argument("--answer", default="48,500", help="tokens, with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    answers = [int(each) for each in arguments.answer.split(",")]
    _, shape, kind = shapes.parse(arguments.shape)
    cells = (STREAMS + 1) * (PROMPT + max(answers))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "model.gguf", shape, kind)
        config = msgspec.convert({"model": {"model_path": str(path)}}, Config)
        sizes = {"cells": cells, "sequences": STREAMS + 1, "threads": hardware.cores()}
        with closing(Model(path, config)) as model, closing(Context(model, config, **sizes)) as one:
            copies = Copies(one, arguments.rounds)
            rows = [
                copies.of_answer(tokens, streams) for tokens in answers for streams in (1, STREAMS)
            ]
    report(rows, COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
