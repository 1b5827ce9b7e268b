"""Embeddings between the steps: inputs of several requests in one batch of their own context."""

from __future__ import annotations

import itertools
import logging
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from llmengine.engine.pacer import Pacer
from llmengine.errors import EngineError, Internal, ModelUnavailable
from llmengine.llama.context import Status
from llmengine.llama.embedding import EmbeddingContext, Vectors
from llmengine.llama.traits import Pooling, Traits

log = logging.getLogger("llmengine.engine")

SEQUENCES = 32  # inputs in a batch
SMALLEST = 512  # tokens of the longest input that the first context is made for

_ids = itertools.count()


class Job:
    """The inputs of one request, and its embeddings once all are there."""

    def __init__(self, inputs: Sequence[Sequence[int]]) -> None:
        self.id = f"embed-{next(_ids)}"
        self.future: Future[list[bytes]] = Future()
        self._vectors: list[bytes] = [b""] * len(inputs)
        self._missing = len(inputs)
        self.inputs = [Input(self, index, array("i", each)) for index, each in enumerate(inputs)]

    def put(self, index: int, vector: Vectors) -> None:
        self._vectors[index] = vector.astype("<f4").tobytes()
        self._missing -= 1
        if not self._missing and self.future.set_running_or_notify_cancel():
            self.future.set_result(self._vectors)

    def fail(self, error: EngineError) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Input:
    """One text under way."""

    def __init__(self, job: Job, index: int, tokens: array[int]) -> None:
        self.job = job
        self.index = index
        self.tokens = tokens
        self.sequence = -1  # once it has begun
        self.computed = 0  # tokens
        self._pooled: Vectors | None = None  # not divided: it is brought to length 1 in the end

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    def pool(self, rows: Vectors, pooling: Pooling) -> None:
        """Take in the vectors of the next tokens, [tokens, size]."""
        if pooling is Pooling.LAST:
            self._pooled = rows[-1].copy()
        elif self._pooled is None:
            self._pooled = rows[0].copy() if pooling is Pooling.CLS else rows.sum(axis=0)
        elif pooling is Pooling.MEAN:
            self._pooled += rows.sum(axis=0)

    @property
    def vector(self) -> Vectors:
        """The embedding, of length 1."""
        assert self._pooled is not None
        norm = float(np.linalg.norm(self._pooled))
        return self._pooled / norm if norm else self._pooled


class Embedder:
    """Only the engine's thread may use it, but for `abort`.

    While sequences wait for their next token, embeddings get half of the time at most, and a batch
    is sized to take half of `max_itl`; an input of a model that looks both ways is computed whole.
    """

    def __init__(
        self,
        traits: Traits,
        new_context: Callable[[int], EmbeddingContext],
        *,
        max_itl: float,
        rows: int,
    ) -> None:
        """`new_context` makes one for inputs of so many tokens; `rows` tokens are a batch."""
        self._traits = traits
        self._new_context = new_context
        self._pacer = Pacer(max_itl / 2, rows)
        self._context: EmbeddingContext | None = None
        self._inputs: deque[Input] = deque()  # only the first may have begun
        self._sequences = itertools.cycle(range(SEQUENCES))
        self._debt = 0.0  # seconds that belong to the sequences

    @property
    def busy(self) -> bool:
        return bool(self._inputs)

    def add(self, job: Job) -> None:
        self._inputs.extend(job.inputs)

    def step(self, sequences: int, seconds: float) -> None:
        """Compute one batch, if there is one and it is its turn.

        `sequences` wait for their next token, `seconds` is what their last step took.
        """
        self._debt = max(0.0, self._debt - seconds) if sequences else 0.0
        batch = [] if self._debt else self._plan(self._pacer.chunk(sequences))
        if not batch:
            return
        started = time.perf_counter()
        try:
            self._compute(batch)
        except Exception as error:
            self._fail(batch, error)
        took = time.perf_counter() - started
        self._debt = took if sequences else 0.0
        self._pacer.observe(sequences, sum(count for _, count in batch), took)

    def _plan(self, room: int) -> list[tuple[Input, int]]:
        """The next inputs, and how many tokens of each."""
        batch: list[tuple[Input, int]] = []
        fits = self._context.length if self._context else 0
        while self._inputs and room > 0 and len(batch) < SEQUENCES:
            each = self._inputs[0]
            if each.job.future.done():  # cancelled, or failed
                self._forget(self._inputs.popleft())
                continue
            count = min(each.pending, room) if self._traits.causal else each.pending
            # A larger context is made only when nothing has begun in the old one.
            if batch and (count > room or len(each.tokens) > fits):
                break
            fits = max(fits, len(each.tokens))
            batch.append((self._inputs.popleft(), count))
            room -= count
        return batch

    def _compute(self, batch: list[tuple[Input, int]]) -> None:
        context = self._fitting(len(batch[0][0].tokens))
        context.clear()
        for each, count in batch:
            if each.sequence < 0:
                each.sequence = next(self._sequences)
            end = each.computed + count
            context.add(each.sequence, each.computed, each.tokens[each.computed : end])
        status = context.compute()
        if status is Status.ABORTED:
            raise ModelUnavailable("the server is shutting down")
        if status is not Status.OK:
            raise Internal(f"llama.cpp could not compute embeddings: {status.name.lower()}")
        self._collect(context, batch)

    def _fitting(self, length: int) -> EmbeddingContext:
        """A context for inputs of `length` tokens: made when first needed, anew for longer ones."""
        if self._context is None or self._context.length < length:
            self._free()
            self._context = self._new_context(max(SMALLEST, 1 << (length - 1).bit_length()))
        return self._context

    def _collect(self, context: EmbeddingContext, batch: list[tuple[Input, int]]) -> None:
        rows, start = None if context.ranks else context.vectors(), 0
        for each, count in batch:
            each.computed += count
            if rows is not None:
                each.pool(rows[start : start + count], self._traits.pooling)
                start += count
            if each.pending:  # the last one, if it was cut
                self._inputs.appendleft(each)
                continue
            found = context.scores(each.sequence) if rows is None else each.vector
            self._forget(each)
            each.job.put(each.index, found)

    def _forget(self, each: Input) -> None:
        if self._context and each.sequence >= 0:
            self._context.forget(each.sequence)

    def _fail(self, batch: list[tuple[Input, int]], error: Exception) -> None:
        self._free()
        if not isinstance(error, EngineError):
            log.error("embeddings failed", exc_info=error)
            error = Internal("embeddings failed")
        for each, _ in batch:
            each.job.fail(error)

    def _free(self) -> None:
        context, self._context = self._context, None
        if context:
            context.close()

    def abort(self) -> None:
        """Stop a batch that is under way; from any thread."""
        context = self._context
        if context:
            context.abort()

    def close(self) -> None:
        """Free the context and fail what is left."""
        for each in self._inputs:
            each.job.fail(ModelUnavailable("the server is shutting down"))
        self._inputs.clear()
        self._free()
