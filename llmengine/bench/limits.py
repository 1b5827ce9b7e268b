"""How fast this machine reads memory and multiplies, as nothing can be faster on it.

Bytes are read by numpy in as many threads as compute, from as much memory as the model takes: a
small model is read from the processor's caches. Multiplication is measured by llama.cpp with one
layer so wide that hardly anything else is done, its weights quantized as the model's are. A GPU
multiplies single matrices, by one column and by many: to start the kernels of a layer would take it
longer than to read the layer's weights.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from llmengine import hardware
from llmengine.bench import blocks
from llmengine.bench.shapes import Shape
from llmengine.bench.stepper import Stepper
from llmengine.bench.weights import write
from llmengine.config import Config
from llmengine.llama.device import Device, usage
from llmengine.llama.model import Model
from llmengine.llama.product import Product
from llmengine.llama.work import Work, work_of

WIDE = Shape(layers=1, width=4096, heads=32, kv_heads=8, ffn=14_336, vocabulary=512, context=1024)
MOST_MEMORY = 1 << 30  # bytes that are read over and over
ROWS = 512
SIDE, COLUMNS = 8192, 4096  # of the matrices that a GPU multiplies
READ_SIDE = 16_384  # of the one that it reads for a single column, of 4-byte numbers
REPETITIONS = 5
GPU_SECONDS = 0.5  # its clocks rise under load
LEAST_SECONDS = 0.05  # of one repetition


class Limits(Struct, frozen=True):
    bandwidth: float  # bytes per second
    arithmetic: float  # additions and multiplications per second
    kind: str  # of the weights that were multiplied


def measure(model: Model, work: Work, config: Config, threads: int, wide: Shape = WIDE) -> Limits:
    kind = work.kind.lower() if work.kind.lower() in blocks.KINDS else "q8_0"
    if model.devices:
        return of_device(model.devices[0], kind)
    with tempfile.TemporaryDirectory(prefix="llmengine-bench-") as folder:
        path = write(Path(folder) / "wide.gguf", wide, kind)
        with ExitStack() as stack:
            probe = stack.enter_context(closing(Model(path, config)))
            stepper = stack.enter_context(
                closing(Stepper(probe, config, cells=ROWS, sequences=1, threads=threads))
            )
            seconds = _best(lambda: stepper.prefill(ROWS))
            arithmetic = work_of(probe).operations(ROWS, 1, ROWS / 2) / seconds
    return Limits(bandwidth(int(work.read_by(1)), threads), arithmetic, kind)


def of_device(device: Device, kind: str, side: int = SIDE, columns: int = COLUMNS) -> Limits:
    """Of a GPU; raises OutOfMemory where it has no room for the matrices."""
    [room] = usage([device])  # beside the model
    wide = min(READ_SIDE, 2 * side)
    while 4 * wide * wide > room.memory_free // 4:
        wide //= 2
    with closing(_product(device, "f32", wide, 1)) as product:
        bandwidth = product.bytes / _best(product.run, GPU_SECONDS)
    with closing(_product(device, kind, side, columns)) as product:
        return Limits(bandwidth, product.operations / _best(product.run, GPU_SECONDS), kind)


def _product(device: Device, kind: str, side: int, columns: int) -> Product:
    found = blocks.KINDS[kind]
    weights = blocks.pool(found, 0.02, blocks.POOL, np.random.default_rng(0))
    return Product(device, found.type, weights, side, columns)


def bandwidth(size: int, threads: int) -> float:
    """Bytes per second of reading `size` bytes, or what stands for them, over and over."""
    most = min(MOST_MEMORY, hardware.memory().available // 4)
    words = np.ones(max(1, min(size, most) // 8 // threads * threads), np.int64)
    parts = np.array_split(words, threads)
    rounds = max(1, int(LEAST_SECONDS * 20e9 / words.nbytes))
    with ThreadPoolExecutor(threads, "read") as pool:

        def read() -> float:
            started = time.perf_counter()
            list(pool.map(_read, parts, [rounds] * threads))
            return time.perf_counter() - started

        return words.nbytes * rounds / _best(read)


def _read(part: npt.NDArray[np.int64], rounds: int) -> None:
    for _ in range(rounds):
        np.bitwise_or.reduce(part)  # cheap beside the reading, and without Python's lock


def _best(run: Callable[[], float], least: float = 0.0) -> float:
    """A limit is what was possible once, in `least` seconds or more; the first run warms up."""
    end = time.perf_counter() + least
    run()
    found = [run() for _ in range(REPETITIONS)]
    while time.perf_counter() < end:
        found.append(run())
    return min(found)
