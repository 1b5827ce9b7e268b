"""Prompts and states for the tests of the prompt cache: each state follows from its tokens."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

import numpy as np

from llmengine.cache.entry import State
from llmengine.cache.prefix_tree import Tokens

SYSTEM = np.arange(50, dtype=np.int32)  # what all prompts begin with


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens_of(number: int, length: int = 80) -> Tokens:
    """The prompt of that number."""
    own = np.random.default_rng(number).integers(0, 1000, length - len(SYSTEM), np.int32)
    return np.concatenate([SYSTEM, own])


def state_of(tokens: Tokens, per_token: int = 100) -> State:
    """The state of a prompt: random bytes that these tokens alone give."""
    return _random(crc32(tokens.tobytes()), len(tokens) * per_token)


@lru_cache(maxsize=200)
def _random(seed: int, size: int) -> State:
    state = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    state.flags.writeable = False
    return state


def right(tokens: Tokens, state: State) -> bool:
    """Whether it is the state of these tokens."""
    return bool(np.array_equal(state, state_of(tokens, len(state) // len(tokens))))
