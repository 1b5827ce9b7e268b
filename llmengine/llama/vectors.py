"""Embeddings in place of tokens: the batch of one `llama_decode` that has them."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from msgspec import Struct


class Vectors(Struct, frozen=True):
    """What a model gets of a part of an image or a recording."""

    values: npt.NDArray[np.float32]  # [tokens, width]
    places: npt.NDArray[np.int32]  # [dimensions, tokens]: positions, if the part began at 0
    moves: npt.NDArray[np.int32]  # [dimensions, tokens]: what they grow by if it begins 1 later
    causal: bool  # otherwise its tokens look at each other, and are computed in one batch

    def rows(self, start: int, count: int, position: int) -> Vectors:
        """Some of its tokens, where the part begins at a `position`."""
        end = start + count
        places = self.places[:, start:end] + position * self.moves[:, start:end]
        return Vectors(self.values[start:end], places, self.moves[:, start:end], self.causal)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.values.nbytes + self.places.nbytes + self.moves.nbytes


class VectorBatch:
    """A `llama_batch` of embeddings of one sequence, and of rows of zeros that pad it."""

    def __init__(self, sequence: int, vectors: Vectors, output: bool, padding: list[int]) -> None:
        """`output` asks for the logits after the last row.

        `padding` are sequences that get a row each, and an output each if there is one at all.
        """
        rows, pads = len(vectors.values), len(padding)
        values = np.pad(vectors.values, ((0, pads), (0, 0)))
        places = np.pad(vectors.places, ((0, 0), (0, pads)))
        places[:, rows:] = np.arange(pads)
        outputs = np.zeros(rows + pads, np.int8)
        outputs[rows - 1 :] = output
        sequences = np.array([sequence] * rows + padding, np.int32)
        pointers = sequences.ctypes.data + np.arange(rows + pads, dtype=np.uint64) * 4
        ones = np.ones(rows + pads, np.int32)
        # llama.cpp gets addresses only.
        self._kept = [values, places, outputs, sequences, pointers, ones]
        self.native = llama_cpp.llama_batch(
            n_tokens=rows + pads,
            token=None,
            embd=_pointer(values, "embd"),
            pos=_pointer(places, "pos"),
            n_seq_id=_pointer(ones, "n_seq_id"),
            seq_id=_pointer(pointers, "seq_id"),
            logits=_pointer(outputs, "logits"),
        )


def _pointer(array: npt.NDArray[Any], field: str) -> Any:
    return ctypes.cast(array.ctypes.data, dict(llama_cpp.llama_batch._fields_)[field])
