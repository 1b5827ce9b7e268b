"""Random weights in the layouts of ggml's quantized types (ggml-common.h)."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from msgspec import Struct

POOL = 32 << 20  # bytes of different blocks; then they repeat, which no kernel notices
_CALIBRATION = 4096  # blocks whose values tell what a scale of 1 amounts to


class Kind(Struct, frozen=True):
    """A type of weights; the rest of a block beside its `scales` may be any bytes."""

    type: Type
    scales: dict[int, float] = {}  # offset in a block of each f16, as a multiple of the scale
    fallback: str = ""  # the kind of rows that are no multiple of its block

    @property
    def block(self) -> int:
        """Weights that a block has."""
        return int(gguf.GGML_QUANT_SIZES[self.type][0])

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return int(gguf.GGML_QUANT_SIZES[self.type][1])


# The second number of a type with minima moves its weights' mean to 0.
KINDS = {
    "f32": Kind(Type.F32),
    "f16": Kind(Type.F16),
    "bf16": Kind(Type.BF16),
    "q8_0": Kind(Type.Q8_0, {0: 1.0}),
    "q5_1": Kind(Type.Q5_1, {0: 1.0, 2: -15.5}),
    "q5_0": Kind(Type.Q5_0, {0: 1.0}),
    "q4_1": Kind(Type.Q4_1, {0: 1.0, 2: -7.5}),
    "q4_0": Kind(Type.Q4_0, {0: 1.0}),
    "iq4_nl": Kind(Type.IQ4_NL, {0: 1.0}),
    "q6_k": Kind(Type.Q6_K, {208: 1.0}, "q8_0"),
    "q5_k": Kind(Type.Q5_K, {0: 1.0, 2: 15.5}, "q5_1"),
    "q4_k": Kind(Type.Q4_K, {0: 1.0, 2: 7.5}, "q5_0"),
    "q3_k": Kind(Type.Q3_K, {108: 1.0}, "iq4_nl"),
    "q2_k": Kind(Type.Q2_K, {80: 1.0, 82: 1.5}, "iq4_nl"),
}


def kind_for(name: str, columns: int) -> Kind:
    """The kind, or what llama.cpp takes in its place for rows of that many weights."""
    kind = KINDS[name]
    return KINDS[kind.fallback] if columns % kind.block else kind


def row_bytes(kind: Kind, columns: int) -> int:
    return columns // kind.block * kind.size


def pool(
    kind: Kind, spread: float, wanted: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """At most `wanted` bytes of whole blocks whose weights have the standard deviation `spread`."""
    count = max(1, min(wanted, POOL) // kind.size)
    if not kind.scales:
        return _numbers(kind, spread, count, random)
    blocks = np.frombuffer(random.bytes(count * kind.size), np.uint8).reshape(count, kind.size)
    blocks = blocks.copy()
    _scale(blocks, kind, 1.0)
    deviation = float(gguf.quants.dequantize(blocks[:_CALIBRATION], kind.type).std())
    _scale(blocks, kind, spread / deviation)
    flat: npt.NDArray[np.uint8] = blocks.reshape(-1)
    return flat


def _scale(blocks: npt.NDArray[np.uint8], kind: Kind, scale: float) -> None:
    for offset, factor in kind.scales.items():
        blocks[:, offset : offset + 2] = np.array([scale * factor], np.float16).view(np.uint8)


def _numbers(
    kind: Kind, spread: float, count: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    numbers = random.standard_normal(count, np.float32) * np.float32(spread)
    values: npt.NDArray[np.generic] = numbers
    if kind.type == Type.F16:
        values = numbers.astype(np.float16)
    elif kind.type == Type.BF16:
        values = numbers.view(np.uint16)[1::2].copy()  # the upper halves
    return values.view(np.uint8)
