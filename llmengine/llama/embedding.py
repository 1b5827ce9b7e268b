"""A llama.cpp context that turns token ids into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmengine.config import Config
from llmengine.errors import OutOfMemory
from llmengine.llama import library
from llmengine.llama.abort import AbortFlag
from llmengine.llama.batch import Batch
from llmengine.llama.context import Status
from llmengine.llama.model import Model
from llmengine.llama.traits import Pooling, traits_of

Vectors = npt.NDArray[np.float32]


class EmbeddingContext:
    """Wraps a `llama_context` of embeddings. One thread may use it, but for `abort`.

    Vectors of tokens are pooled by the caller, so an input of a causal model may come in several
    batches. A model that looks both ways, or ranks without a memory, needs each input whole.
    """

    def __init__(
        self, model: Model, config: Config, *, length: int, sequences: int, threads: int
    ) -> None:
        """For inputs of up to `length` tokens, up to `sequences` of them in a batch.

        Raises OutOfMemory when llama.cpp can't have the memory.
        """
        self.length = length
        self._alone = sequences == 1
        traits = traits_of(model)
        self.ranks = traits.pooling is Pooling.RANK
        self._size = traits.scores if self.ranks else traits.embedding_size
        rows = config.performance.prefill_batch
        self.rows = max(rows, length) if not traits.causal else rows  # of one batch
        self._batch = Batch(max(self.rows, sequences))
        self._abort = AbortFlag()
        library.forget_errors()
        params = self._params(config, model, sequences, threads)
        self._context = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._context:
            reason = library.last_error("llama.cpp gave no reason")
            raise OutOfMemory(f"cannot allocate a context for embeddings: {reason}")
        self._memory = llama_cpp.llama_get_memory(self._context)

    def _params(
        self, config: Config, model: Model, sequences: int, threads: int
    ) -> llama_cpp.llama_context_params:
        params = llama_cpp.llama_context_default_params()
        # One input is under way at most when others join it.
        params.n_ctx = self.length + self._batch.capacity
        params.n_batch = params.n_ubatch = self._batch.capacity
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        none = llama_cpp.LLAMA_POOLING_TYPE_NONE
        params.pooling_type = Pooling.RANK.value if self.ranks else none
        params.kv_unified = True
        params.offload_kqv = bool(model.devices)
        params.no_perf = True
        self._abort.attach(params)
        return params

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    def clear(self) -> None:
        """Empty the batch."""
        self._batch.clear()

    def add(self, sequence: int, start: int, tokens: Sequence[int]) -> None:
        """Append `tokens` of a sequence from position `start` on to the batch."""
        self._batch.add(sequence, start, tokens, True)

    def compute(self) -> Status:
        self._batch.output_all()
        code = llama_cpp.llama_decode(self._context, self._batch.native)
        return Status(code) if code >= 0 else Status.FAILED

    def abort(self) -> None:
        """Stop what is computed, for good; from any thread."""
        self._abort.set()

    def vectors(self) -> Vectors:
        """The vectors of the batch's tokens, [rows, size]: valid until the next `compute`."""
        pointer = llama_cpp.llama_get_embeddings(self._context)
        return np.ctypeslib.as_array(pointer, (self._batch.rows, self._size))

    def scores(self, sequence: int) -> Vectors:
        """What a ranking model gives a sequence of the last batch, [size]."""
        pointer: Any = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
        found: Vectors = np.ctypeslib.as_array(pointer, (self._size,)).copy()
        return found

    def forget(self, sequence: int) -> None:
        if self._memory and self._alone:
            llama_cpp.llama_memory_clear(self._memory, False)  # the next one has the same cells
        elif self._memory:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
