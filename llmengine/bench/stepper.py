"""Bare steps of llama.cpp through the engine's own context: no scheduler and no sampler."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llmengine.config import Config
from llmengine.errors import OutOfMemory
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model


class Stepper:
    """Computes random tokens; times are seconds."""

    def __init__(
        self, model: Model, config: Config, *, cells: int, sequences: int, threads: int
    ) -> None:
        self._model = model
        self._context = Context(model, config, cells=cells, sequences=sequences, threads=threads)
        self._random = np.random.default_rng(0)
        self._depth = 0  # tokens that the sequence begins with
        self._state: npt.NDArray[np.uint8] | None = None

    def close(self) -> None:
        self._context.close()

    def prefill(self, tokens: int) -> float:
        """A prompt of so many tokens behind those of `deepen`; in whole batches."""
        self._restore()
        return self._compute(tokens)

    def decode(self, tokens: int) -> float:
        """So many tokens behind those of `deepen`, one after the other."""
        self._restore()
        drawn = self._drawn(tokens)
        started = time.perf_counter()
        for position, token in enumerate(drawn, self._depth):
            self._context.batch.clear()
            self._context.batch.add_row(0, position, token)
            self._step(1)
        return time.perf_counter() - started

    def decode_together(self, streams: int, prompt: int, tokens: int) -> float:
        """So many tokens of each stream behind a prompt that all share; only these are timed."""
        self.deepen(0)
        self.prefill(prompt)
        for stream in range(1, streams):
            self._context.copy(0, stream, prompt)
        drawn = self._drawn(tokens * streams)
        started = time.perf_counter()
        for step in range(tokens):
            self._context.batch.clear()
            for stream in range(streams):
                token = drawn[step * streams + stream]
                self._context.batch.add_row(stream, prompt + step, token)
            self._step(streams)
        return time.perf_counter() - started

    def deepen(self, tokens: int) -> None:
        """What follows has so many tokens before it."""
        self._context.clear()
        self._depth, self._state = 0, None
        if tokens:
            self._compute(tokens)
            self._depth = tokens
            if not self._context.can_truncate:
                self._state = np.empty(self._context.state_size(0), np.uint8)
                self._context.save(0, self._state)

    def _restore(self) -> None:
        if not self._depth:
            self._context.clear()
        elif self._state is None:
            self._context.truncate(0, self._depth)
        else:
            self._context.remove(0)
            self._context.load(0, self._state)

    def _compute(self, tokens: int) -> float:
        drawn = self._drawn(tokens)
        rows = self._context.rows
        started = time.perf_counter()
        for start in range(0, tokens, rows):
            chunk = drawn[start : start + rows]
            last = start + rows >= tokens
            self._context.batch.clear()
            self._context.batch.add(0, self._depth + start, chunk, last)
            self._step(int(last))
        return time.perf_counter() - started

    def _step(self, outputs: int) -> None:
        """Compute the batch; asking for its logits waits for a GPU."""
        status = self._context.decode()
        if status is not Status.OK:
            raise OutOfMemory(f"llama.cpp could not compute a step: {status.name.lower()}")
        if outputs:
            self._context.logits(outputs)

    def _drawn(self, count: int) -> Sequence[int]:
        # The last ones of a vocabulary are often control tokens.
        drawn: list[int] = self._random.integers(0, self._model.vocabulary - 2, count).tolist()
        return drawn
