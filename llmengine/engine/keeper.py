"""States on their way between llama.cpp's memory and the prompt cache."""

from __future__ import annotations

from array import array
from typing import Protocol

import numpy as np
from msgspec.structs import replace

from llmengine.cache.entry import Found, new_state
from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.pool import Buffer
from llmengine.media.spans import whole

STEP_BYTES = 128 * 1024 * 1024  # copied out of llama.cpp per step at most: some 30 ms
UNMEASURED = 0.001  # seconds to prefill a token, until a step has told


class States(Protocol):
    """What the keeper needs of `llmengine.llama.context.Context`."""

    def state_size(self, sequence: int, end: int | None = None) -> int: ...
    def save(self, sequence: int, buffer: Buffer, end: int | None = None) -> bool: ...


class Keeper:
    """Saves the states of idle slots, and finds those that a prompt can start from."""

    def __init__(self, cache: PromptCache, states: States, *, min_tokens: int, whole: bool) -> None:
        """With `whole`, only states that a prompt begins with entirely are of use to it."""
        self.cache = cache
        self._states = states
        self._min_tokens = min_tokens
        self._whole = whole
        self._left = STEP_BYTES

    def begin_step(self) -> None:
        self._left = STEP_BYTES

    def find(
        self, scope: str, tokens: array[int], held: int, seconds_per_token: float
    ) -> Found | None:
        """A stored state that saves time over prefilling what comes after the `held` tokens.

        The last token is left to be computed: its logits are wanted.
        """
        if len(tokens) - held <= self._min_tokens:
            return None
        found = self.cache.find(
            scope,
            np.frombuffer(tokens, np.int32, len(tokens) - 1),
            whole=self._whole,
            held=held,
            seconds_per_token=seconds_per_token or UNMEASURED,
        )
        if found is None:
            return None
        length = whole(tokens, found.length)
        if length - held < self._min_tokens or (self._whole and length < found.length):
            return None
        return replace(found, length=length)

    def keep(self, scope: str, tokens: array[int], label: str) -> bool:
        """Pin the state of exactly these tokens, if it is stored already."""
        return self.cache.keep(scope, np.array(tokens, np.int32), label)

    def pin(self, sequence: int, scope: str, tokens: array[int], label: str) -> bool:
        """Copy a slot's state into the cache, to stay there; False if there is no room."""
        size = self._states.state_size(sequence)
        if not self.cache.room(size):
            return False
        state, kept = new_state(size), np.array(tokens, np.int32)
        return self._states.save(sequence, state) and self.cache.put(
            scope, kept, state, pinned=True, label=label, whole=self._whole
        )

    def has(self, scope: str, tokens: array[int]) -> bool:
        """Whether the cache has the state of these tokens, or of more."""
        return self.cache.covers(scope, np.array(tokens, np.int32), whole=self._whole)

    def save(
        self,
        sequence: int,
        scope: str,
        tokens: array[int],
        *,
        end: int | None = None,
        bounded: bool = True,
    ) -> None:
        """Copy a slot's state into the cache, if it is worth keeping and not there yet.

        The tokens are those before the position `end`, where one is given. `bounded` calls stop at
        what a step may cost the streams that are running.
        """
        if len(tokens) < self._min_tokens or self.has(scope, tokens):
            return
        size = self._states.state_size(sequence, end)
        # One state is let through whatever its size, or a large model's would never be saved.
        if bounded and self._left < min(size, STEP_BYTES):
            return
        if not self.cache.room(size):
            return
        self._left -= size
        state, kept = new_state(size), np.array(tokens, np.int32)
        if self._states.save(sequence, state, end):
            self.cache.put(scope, kept, state, whole=self._whole)
