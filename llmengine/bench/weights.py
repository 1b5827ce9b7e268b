"""A GGUF of random weights: as fast as a real model of its shape, with nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import numpy.typing as npt

from llmengine.bench import vocabulary
from llmengine.bench.blocks import pool
from llmengine.bench.layout import Matrix, matrices, vectors
from llmengine.bench.shapes import DEFAULT_KIND, Shape

_PIECE = 8 << 20  # bytes that are written at once


def write(path: Path, shape: Shape, kind: str = DEFAULT_KIND, seed: int = 0) -> Path:
    """Write the model; raises InvalidRequest for an unknown quantization."""
    large, small = matrices(shape, kind), vectors(shape)
    writer = gguf.GGUFWriter(path, shape.architecture)
    _add_dimensions(writer, shape)
    vocabulary.add(writer, shape.vocabulary)
    for each in large:
        byte = np.dtype(np.uint8)
        writer.add_tensor_info(each.name, each.byte_shape, byte, each.bytes, each.kind.type)
    for vector in small:
        number = np.dtype(np.float32)
        writer.add_tensor_info(vector.name, (vector.size,), number, vector.size * 4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    weights = _Weights(writer.fout[0], writer.data_alignment, seed)
    weights.matrices(large)
    for vector in small:
        weights.add(np.full(vector.size, vector.value, np.float32).view(np.uint8))
    writer.close()
    return path


class _Weights:
    """Writes tensors by pieces, so that the largest of them takes no more memory than a pool.

    gguf's own writer wants each tensor whole.
    """

    def __init__(self, file: BinaryIO, alignment: int, seed: int) -> None:
        self._file = file
        self._alignment = alignment
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._pad()

    def matrices(self, found: Sequence[Matrix]) -> None:
        largest = max(each.bytes for each in found)
        pools: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        for each in found:
            key = int(each.kind.type), each.columns
            if key not in pools:
                pools[key] = pool(each.kind, each.columns**-0.5, largest, self._random)
            self._drawn(pools[key], each)

    def add(self, data: npt.NDArray[np.uint8]) -> None:
        self._file.write(data.data)
        self._pad()

    def _drawn(self, blocks: npt.NDArray[np.uint8], matrix: Matrix) -> None:
        """Stretches of the pool from anywhere on."""
        size = matrix.kind.size
        left = matrix.bytes
        while left:
            start = int(self._random.integers(len(blocks) // size)) * size
            piece = blocks[start : start + min(left, _PIECE // size * size)]
            self._file.write(piece.data)
            left -= len(piece)
        self._pad()

    def _pad(self) -> None:
        self._file.write(bytes(-self._file.tell() % self._alignment))


def _add_dimensions(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(shape.rope_base)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.ffn)
