"""What moving a state costs: out of llama.cpp, to disk, from disk and back, by its size.

    python -m benchmarks.cache_states [--tokens 500,2000,6000] [--rounds 9] [--model FILE] [--json]

The longest prompt is computed once, on a model of Qwen2.5-0.5B's shape with random weights, and
then cut. Files are written to a temporary folder; they are dropped from the page cache before they
are read "from the device".
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from benchmarks.report import report, right
from benchmarks.requests import prompt
from llmengine import hardware
from llmengine.bench.report import Spread
from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.cache.disk_store import DiskStore
from llmengine.cache.entry import Entry, entry_id, new_state
from llmengine.cli.table import number, size
from llmengine.config import Config
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

STEP = 512  # tokens


class Row(Struct, frozen=True):
    tokens: int
    bytes: int
    save: Spread  # seconds
    load: Spread
    write: Spread
    read: Spread
    read_device: Spread


def compute(context: Context, tokens: tuple[int, ...]) -> None:
    """Prefill sequence 0."""
    for start in range(0, len(tokens), STEP):
        context.batch.clear()
        context.batch.add(0, start, tokens[start : start + STEP], False)
        assert context.decode() is Status.OK


def timed(call: Callable[..., object], *args: object) -> float:
    started = time.perf_counter()
    done = call(*args)
    assert done is not None
    assert done is not False
    return time.perf_counter() - started


def measure(context: Context, store: DiskStore, tokens: int, rounds: int) -> Row:
    """Cut sequence 0 and move what is left, as the prompt cache does."""
    context.truncate(0, tokens)
    length = context.state_size(0)
    entry = _entry(tokens, length)
    times: list[tuple[float, ...]] = []
    for _ in range(rounds):
        state = new_state(length)
        row = [timed(context.save, 0, state), timed(context.load, 1, state)]
        context.remove(1)
        row += [timed(store.write, entry, state), timed(store.read, entry.id)]
        uncache(store.directory)
        row.append(timed(store.read, entry.id))
        store.remove(entry.id)
        times.append(tuple(row))
    return Row(tokens, length, *map(Spread.of, zip(*times, strict=True)))


def _entry(tokens: int, length: int) -> Entry:
    held = np.arange(tokens, dtype=np.int32)
    return Entry(
        id=entry_id("", held),
        scope="",
        tokens=held,
        size=length,
        created=0,
        last_used=0,
        expires=float("inf"),
    )


def uncache(folder: Path) -> None:
    """Have the kernel forget the pages of the states in a folder, after it has written them."""
    for path in folder.rglob("*.state"):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


COLUMNS = [
    right("tokens", lambda row: number(row.tokens)),
    right("state", lambda row: size(row.bytes)),
    right("copy out, ms", lambda row: row.save.worded(1e-3)),
    right("copy back, ms", lambda row: row.load.worded(1e-3)),
    right("write, ms", lambda row: row.write.worded(1e-3)),
    right("read, ms", lambda row: row.read.worded(1e-3)),
    right("read from the device, ms", lambda row: row.read_device.worded(1e-3)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", default="500,2000,6000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", type=Path, help="GGUF file; otherwise one is made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lengths = sorted((int(each) for each in arguments.tokens.split(",")), reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.gguf"
        path = arguments.model or write(made, SHAPES["qwen2.5-0.5b"])
        config = msgspec.convert({"model": {"model_path": str(path)}}, Config)
        model = Model(path, config)
        cells = 2 * lengths[0] + STEP
        context = Context(model, config, cells=cells, sequences=2, threads=hardware.cores())
        random = np.random.default_rng(0)
        compute(context, prompt(random, lengths[0], model.vocabulary))
        store = DiskStore(Path(folder) / "states")
        rows = [measure(context, store, tokens, arguments.rounds) for tokens in lengths]
        store.close()
        context.close()
        model.close()
    report(rows[::-1], COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
