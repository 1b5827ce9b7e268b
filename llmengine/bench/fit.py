"""Whether a model of random weights has room on this machine, before it is made."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec import Struct

from llmengine import hardware
from llmengine.bench.layout import size
from llmengine.bench.shapes import Shape
from llmengine.errors import OutOfMemory

GIB = 1 << 30
METADATA = 64  # bytes of the file per token of the vocabulary, rounded up
KV_VALUE = 2.0  # bytes, f16
PROGRAM = 200 << 20  # bytes that the process takes beside the model


class Need(Struct, frozen=True):
    """Bytes."""

    disk: int
    weights: int
    cells: int  # the KV cache
    steps: int  # what llama.cpp computes in

    @property
    def memory(self) -> int:
        return self.weights + self.cells + self.steps + PROGRAM


def need(shape: Shape, kind: str, cells: int, rows: int) -> Need:
    """For a KV cache of so many tokens and steps of so many rows."""
    weights = size(shape, kind)
    return Need(
        disk=weights + METADATA * shape.vocabulary,
        weights=weights,
        cells=int(cells * 2 * shape.kv_width * shape.layers * KV_VALUE),
        # The logits of all rows, and a few intermediate results as wide as the widest layer.
        steps=4 * rows * (shape.vocabulary + 8 * max(shape.ffn, shape.width)),
    )


def check(name: str, needed: Need, folder: Path) -> None:
    """Raises OutOfMemory, with the numbers, where the memory or the folder's disk is too small."""
    available = hardware.memory().available
    if needed.memory > available:
        raise OutOfMemory(
            f"{name} does not fit: it takes {needed.memory / GIB:.1f} GiB of memory (weights "
            f"{needed.weights / GIB:.1f}, KV cache {needed.cells / GIB:.1f}, steps "
            f"{needed.steps / GIB:.1f}), {available / GIB:.1f} GiB are available; take a smaller "
            "quantization or shape"
        )
    free = shutil.disk_usage(folder).free
    if needed.disk > free:
        raise OutOfMemory(
            f"{name} does not fit: its file takes {needed.disk / GIB:.1f} GiB, {folder} has "
            f"{free / GIB:.1f} GiB left; TMPDIR names another folder"
        )
