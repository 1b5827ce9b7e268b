"""Embeddings beside the engine: inputs of several requests in one batch of their own context."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import numpy as np

from llmengine.engine.pulse import Pulse
from llmengine.errors import EngineError, Internal, ModelUnavailable
from llmengine.llama.context import Status
from llmengine.llama.embedding import EmbeddingContext, Vectors
from llmengine.llama.traits import Pooling, Traits

log = logging.getLogger("llmengine.engine")

NICE = 10  # how far the thread stands back
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
    """Computes embeddings on a thread of its own, which alone may call what names no other.

    Reading is bound by arithmetic and writing by memory: side by side, both take less time than
    in turns.
    """

    def __init__(
        self,
        traits: Traits,
        new_context: Callable[[int], EmbeddingContext],
        *,
        rows: int,
        sequences: int,
        pulse: Pulse,
    ) -> None:
        """`new_context` makes one for inputs of so many tokens.

        A batch has `rows` tokens of up to `sequences` inputs, or one longer input.
        """
        self.finished: Counter[str] = Counter()  # jobs, by how they ended
        self._counting = threading.Lock()
        self._traits = traits
        self._new_context = new_context
        self._rows = rows
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._context: EmbeddingContext | None = None
        self._inputs: deque[Input] = deque()  # only the first may have begun
        self._sequences = sequences
        self._next_sequence = itertools.cycle(range(sequences))
        self._pulse = pulse
        self._load = 1.0  # batches of `rows` tokens that the one under way is worth

    @property
    def stalled(self) -> float:
        """How long a batch takes, by the clock of the pulse; from any thread."""
        return self._pulse.age / self._load

    # From other threads, one at a time

    def add(self, job: Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="embeddings", daemon=True)
            self._thread.start()
        job.future.add_done_callback(self._count)
        self._inbox.put(job)

    def _count(self, done: Future[list[bytes]]) -> None:
        failed = not done.cancelled() and done.exception()
        with self._counting:
            self.finished["cancelled" if done.cancelled() else "error" if failed else "stop"] += 1

    def close(self) -> None:
        """Fail what is left and free the context."""
        if self._thread:
            self._inbox.put(None)
            context = self._context
            if context:
                context.abort()
            self._thread.join()

    # The thread

    def _run(self) -> None:
        give_way()
        while self._receive():
            self.step()
        self._end()

    def _receive(self) -> bool:
        """Take in what has arrived, waiting for it if there is nothing to do; False to stop."""
        while not self._inputs or not self._inbox.empty():
            with self._pulse.resting():
                job = self._inbox.get()
            if job is None:
                return False
            self.take(job)
        return True

    def take(self, job: Job) -> None:
        self._inputs.extend(job.inputs)

    def step(self) -> None:
        """Compute one batch, if there is one."""
        batch = self._plan()
        self._load = max(1.0, sum(count for _, count in batch) / self._rows)
        self._pulse.beat()
        if batch:
            try:
                self._compute(batch)
            except Exception as error:
                self._fail(batch, error)

    def _plan(self) -> list[tuple[Input, int]]:
        """The next inputs, and how many tokens of each."""
        batch: list[tuple[Input, int]] = []
        room, fits = self._rows, self._context.length if self._context else 0
        while self._inputs and room > 0 and len(batch) < self._sequences:
            each = self._inputs[0]
            if each.job.future.done():  # cancelled, or failed
                self._forget(self._inputs.popleft())
                continue
            # A model that looks both ways must see an input whole.
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
                each.sequence = next(self._next_sequence)
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

    def _end(self) -> None:
        for each in self._inputs:
            each.job.fail(ModelUnavailable("the server is shutting down"))
        self._inputs.clear()
        self._free()


def give_way() -> None:
    """Leave the cores to the engine's thread when it wants them: streams keep their pace.

    The threads that llama.cpp starts from this one inherit it. Only Linux has it for threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(own + NICE, 19))
