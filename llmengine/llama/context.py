"""A llama.cpp context: one KV cache that all sequences share, and the decoding over it."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmengine.config import Config
from llmengine.errors import OutOfMemory
from llmengine.llama import library
from llmengine.llama.abort import AbortFlag
from llmengine.llama.attention import Attention
from llmengine.llama.batch import Batch
from llmengine.llama.model import Model
from llmengine.llama.vectors import VectorBatch, Vectors

Logits = npt.NDArray[np.float32]

# Flash attention on a CPU takes another path from 64 rows on (ggml-cpu/ops.cpp).
DETERMINISTIC_ROWS = 60

_KV_TYPES = {"f16": (llama_cpp.GGML_TYPE_F16, 2.0), "q8_0": (llama_cpp.GGML_TYPE_Q8_0, 34 / 32)}
_KV_TYPES["q4_0"] = (llama_cpp.GGML_TYPE_Q4_0, 18 / 32)
_FLASH_ATTENTION = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


class Status(enum.Enum):
    """What `llama_decode` returned."""

    OK = 0
    NO_ROOM = 1  # nothing changed
    ABORTED = 2  # rows computed before the abort stay
    FAILED = -1


def kv_value_bytes(kv_type: str) -> float:
    """Bytes per value of a KV cache type."""
    return _KV_TYPES[kv_type][1]


class Context:
    """Wraps `llama_context`. Only the engine's thread may use it, except for `abort`."""

    def __init__(self, model: Model, config: Config, *, cells: int, sequences: int, threads: int):
        """Allocate a KV cache of `cells` tokens for up to `sequences` sequences.

        Raises OutOfMemory when llama.cpp can't have the memory.
        """
        self.model = model
        self.cells = cells
        self.deterministic = config.performance.deterministic
        self._in_tiles = config.model.kv_type == "f16" and config.model.flash_attention != "off"
        self._kind = f"{config.model.kv_type} {config.model.flash_attention}"
        if model.devices:  # they round in their own way
            names = " ".join(each.description for each in model.devices)
            self._kind += f" {config.model.gpu_layers} layers on {names}"
        self.sequences = sequences + self.deterministic  # the last one pads the batch
        # A call for each run of a sequence's cells, for keys and values of each layer, some 10 us:
        # the tokens that a stream got beside others are computed anew in less.
        self.scatters = model.copied and not model.needs_checkpoints and not self.deterministic
        rows = DETERMINISTIC_ROWS if self.deterministic else config.performance.prefill_batch
        self.rows = min(max(rows, config.slots), cells)  # of one step
        self.threads = threads
        self._abort = AbortFlag()
        # llama.cpp wants room for a row of every sequence, used or not.
        self._batch = Batch(max(self.rows, sequences + self.scatters) + 2 * self.deterministic)
        library.forget_errors()
        self._context = llama_cpp.llama_init_from_model(model.handle, self._params(config, threads))
        if not self._context:
            reason = library.last_error("llama.cpp gave no reason")
            raise OutOfMemory(
                f"cannot allocate a context of {cells} tokens: {reason}; lower model.context_size"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._logits: list[Logits] = []
        self._logits_address = 0

    def _params(self, config: Config, threads: int) -> llama_cpp.llama_context_params:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = self._batch.capacity
        params.n_ubatch = self._batch.capacity
        params.n_seq_max = self.sequences + self.scatters  # the last one is cut off others
        params.n_threads = params.n_threads_batch = threads
        # Deterministic sums need the path that takes the cells one by one.
        flash = "on" if self.deterministic else config.model.flash_attention
        params.flash_attn_type = _FLASH_ATTENTION[flash]
        params.type_k = params.type_v = _KV_TYPES[config.model.kv_type][0]
        params.kv_unified = True
        # Or no prefix of a sliding-window model could be shared before its end. It would save
        # little: the smaller cache has room for a window of every sequence, running or idle.
        params.swa_full = True
        params.offload_kqv = bool(self.model.devices)
        params.no_perf = True
        self._abort.attach(params)
        return params

    @property
    def attention(self) -> Attention:
        """What is known of its time: that of flash attention on a CPU, in its usual precision."""
        if self.deterministic or self.model.devices or not self._in_tiles:
            return Attention()
        return Attention.flash(self.model.attention_values, self.model.parameters)

    @property
    def fingerprint(self) -> str:
        """What a saved state depends on beside its tokens and the model's file."""
        version = llama_cpp.llama_version().decode()
        return f"{version} {self._kind} {self.deterministic} {library.system_info()}"

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    # Decoding

    @property
    def batch(self) -> Batch:
        """The rows of the next `decode`; clear it before use."""
        return self._batch

    def decode(self) -> Status:
        """Compute the batch (`llama_decode`)."""
        self._abort.clear()
        if not self.deterministic:
            return self._decode()
        self._pad()
        try:
            return self._decode()
        finally:
            self.remove(self.sequences - 1)

    def decode_vectors(self, sequence: int, vectors: Vectors, output: bool) -> Status:
        """Compute embeddings of a sequence in place of tokens, alone in a batch.

        `output` asks for the logits after the last of them.
        """
        self._abort.clear()
        padding = [] if not self.deterministic else [self.sequences - 1]
        missing = 2 - min(len(vectors.values), 1 if output else 2)
        batch = VectorBatch(sequence, vectors, output, padding * missing)
        if not vectors.causal:
            llama_cpp.llama_set_causal_attn(self._context, False)
        try:
            return self._status(llama_cpp.llama_decode(self._context, batch.native))
        finally:
            if not vectors.causal:
                llama_cpp.llama_set_causal_attn(self._context, True)
            if self.deterministic:
                self.remove(self.sequences - 1)

    def _decode(self) -> Status:
        return self._status(llama_cpp.llama_decode(self._context, self._batch.native))

    def _status(self, code: int) -> Status:
        """What `llama_decode` returned, once all is computed."""
        if self.model.devices:
            # It comes back while a GPU computes, and the time of a step sizes the next ones.
            llama_cpp.llama_synchronize(self._context)
        return Status(code) if code >= 0 else Status.FAILED

    def _pad(self) -> None:
        """A single row, and a single output, are multiplied by other kernels than several are."""
        for position in range(2 - min(self._batch.rows, self._batch.outputs or 2)):
            self._batch.add(self.sequences - 1, position, (0,), True)

    def set_threads(self, count: int) -> None:
        """Compute with so many threads from the next `decode` on."""
        self.threads = count
        llama_cpp.llama_set_n_threads(self._context, count, count)

    def abort(self) -> None:
        """Stop a `decode` that is under way; from any thread."""
        self._abort.set()

    def logits(self, outputs: int) -> list[Logits]:
        """The logits of each output of the last batch, [vocabulary]: valid until `decode`."""
        pointer = llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_address or len(self._logits) < outputs:
            self._logits_address = address
            self._logits = list(np.ctypeslib.as_array(pointer, (outputs, self.model.vocabulary)))
        return self._logits[:outputs]

    @property
    def handle(self) -> llama_cpp.llama_context_p:
        return self._context

    # Memory

    def copy(self, source: int, target: int, end: int) -> None:
        """Share a sequence's cells before a position with another (`llama_memory_seq_cp`)."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def remove(self, sequence: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def truncate(self, sequence: int, end: int) -> bool:
        """Drop a sequence from a position on; False if its memory can't, nothing changes then."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, end, -1))

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, False)

    @property
    def can_truncate(self) -> bool:
        return self.model.can_truncate

    @property
    def can_shift(self) -> bool:
        """Whether tokens in the middle of a sequence can be dropped; never with equal bits."""
        if self.deterministic or not self.model.can_truncate:
            return False
        return bool(llama_cpp.llama_memory_can_shift(self._memory))

    def shift(self, sequence: int, start: int, count: int) -> None:
        """Drop `count` tokens from `start` on and move what comes after them up.

        A cell has one position: those that move must belong to no other sequence. They are
        rotated by the next `decode`; a state that is saved before is of no use.
        """
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, start, start + count)
        llama_cpp.llama_memory_seq_add(self._memory, sequence, start + count, -1, -count)

    def usable(self, sequence: int, length: int, wanted: int) -> int:
        """How many of the first `wanted` of a sequence's `length` tokens another may start from."""
        if wanted == length:
            return length
        if not self.model.can_truncate:
            return 0
        window = self.model.sliding_window
        if window:
            oldest = llama_cpp.llama_memory_seq_pos_min(self._memory, sequence)
            if oldest > max(0, wanted - window):
                return 0
        return wanted

    def state_size(self, sequence: int, end: int | None = None) -> int:
        """Bytes that `save` writes for a sequence, or for what it has before the position `end`."""
        with self._cut(sequence, end) as cut:
            return int(llama_cpp.llama_state_seq_get_size(self._context, cut))

    def save(self, sequence: int, buffer: npt.NDArray[np.uint8], end: int | None = None) -> bool:
        """Copy a sequence's state out, that before the position `end`; False if it did not fit."""
        pointer = _bytes(buffer)
        size = len(buffer)
        with self._cut(sequence, end) as cut:
            return bool(llama_cpp.llama_state_seq_get_data(self._context, pointer, size, cut))

    @contextmanager
    def _cut(self, sequence: int, end: int | None) -> Iterator[int]:
        """The sequence, or one that shares its cells before a position; only where it scatters."""
        if end is None:
            yield sequence
            return
        self.copy(sequence, self.sequences, end)
        try:
            yield self.sequences
        finally:
            self.remove(self.sequences)

    def load(self, sequence: int, buffer: npt.NDArray[np.uint8]) -> bool:
        """Copy a saved state into an empty sequence; False if there was no room."""
        pointer = _bytes(buffer)
        size = len(buffer)
        return bool(llama_cpp.llama_state_seq_set_data(self._context, pointer, size, sequence))


def _bytes(buffer: npt.NDArray[np.uint8]) -> Any:
    return ctypes.cast(buffer.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
