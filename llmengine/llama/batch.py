"""The tokens of one `llama_decode`, in arrays that are allocated once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np


class Batch:
    """A reusable `llama_batch` of up to `capacity` rows, each of one sequence."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows = 0
        self.outputs = 0
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._sequence = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        # Single items are set through views: numpy takes ten times as long for one.
        arrays: tuple[Any, ...] = self._token, self._position, self._sequence, self._output
        self._views = [memoryview(each) for each in arrays]
        self._one = np.ones(capacity, np.int32)
        # llama.cpp wants a list of sequence ids per row: each points at its one id.
        address = self._sequence.ctypes.data
        self._pointers = address + np.arange(capacity, dtype=np.uint64) * self._sequence.itemsize
        fields = dict(llama_cpp.llama_batch._fields_)

        def pointer(array: np.ndarray[Any, Any], field: str) -> Any:
            return ctypes.cast(array.ctypes.data, fields[field])

        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=pointer(self._token, "token"),
            embd=None,
            pos=pointer(self._position, "pos"),
            n_seq_id=pointer(self._one, "n_seq_id"),
            seq_id=pointer(self._pointers, "seq_id"),
            logits=pointer(self._output, "logits"),
        )

    def clear(self) -> None:
        self.rows = self.outputs = 0

    def add(self, sequence: int, position: int, tokens: Sequence[int], output: bool) -> None:
        """Append `tokens` of a sequence from `position` on.

        `output` asks for the logits after the last of them.
        """
        start, end = self.rows, self.rows + len(tokens)
        self._token[start:end] = tokens
        self._position[start:end] = np.arange(position, position + end - start)
        self._sequence[start:end] = sequence
        self._output[start:end] = 0
        self._output[end - 1] = output
        self.rows = end
        self.outputs += output

    def add_row(self, sequence: int, position: int, token: int) -> None:
        """Append one token of a sequence, with the logits after it."""
        tokens, positions, sequences, outputs = self._views
        row = self.rows
        tokens[row], positions[row], sequences[row], outputs[row] = token, position, sequence, 1
        self.rows = row + 1
        self.outputs += 1

    def output_all(self) -> None:
        """Ask for an output of every row."""
        self._output[: self.rows] = 1
        self.outputs = self.rows

    @property
    def native(self) -> llama_cpp.llama_batch:
        self._batch.n_tokens = self.rows
        return self._batch
