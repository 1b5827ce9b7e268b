"""A llama.cpp that computes nothing and keeps books only, for what the scheduler makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llmengine.cache.entry import Found, State
from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.fetcher import Fetch, Fetcher
from llmengine.engine.pacer import Pacer
from llmengine.llama.context import Status

BYTES = 16  # of state per token
SECONDS_PER_TOKEN = 0.005  # of prefill, as of a model of 0.5B on two cores


class FakeModel:
    end_tokens: frozenset[int] = frozenset()

    def piece(self, token: int, special: bool = True) -> bytes:
        return b" "


class FakePacer(Pacer):
    """Of a machine whose speed is known and constant."""

    @property
    def seconds_per_token(self) -> float:
        return SECONDS_PER_TOKEN

    def observe(self, decoding: int, prefilled: int, seconds: float, drafted: int = 0) -> None:
        pass


class FakeSampler:
    """Tokens that no other completion has."""

    ended = False

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def sample(self, context: object, row: int, logits: object) -> int:
        return int(self._random.integers(2**31 - 1))


class FakeFetcher(Fetcher):
    """Reads at once, so that a run gives the same again."""

    def __init__(self, cache: PromptCache) -> None:
        super().__init__(cache, lambda: None)

    def start(self, found: Found) -> Fetch | None:
        fetch = Fetch(found)
        fetch.state, fetch.done = self._cache.read(found), True
        return fetch


@dataclass
class FakeBatch:
    rows: int = 0
    items: list[tuple[int, int, int]] = field(default_factory=list)  # sequence, place, tokens
    outputs: int = 0

    def clear(self) -> None:
        self.rows, self.items, self.outputs = 0, [], 0

    def add(self, sequence: int, position: int, tokens: Sequence[int], output: bool) -> None:
        self.items.append((sequence, position, len(tokens)))
        self.rows += len(tokens)
        self.outputs += output

    def add_row(self, sequence: int, position: int, token: int) -> None:
        self.add(sequence, position, (token,), True)


class FakeContext:
    """Knows of each sequence how long it is; a state has BYTES for every token."""

    scatters = False
    handle = None
    can_truncate = True

    def __init__(self) -> None:
        self.batch = FakeBatch()
        self._lengths: dict[int, int] = {}

    def decode(self) -> Status:
        for sequence, position, count in self.batch.items:
            assert position == self._lengths.get(sequence, 0), "a gap or an overlap of positions"
            self._lengths[sequence] = position + count
        return Status.OK

    def logits(self, outputs: int) -> list[None]:
        assert outputs == self.batch.outputs
        return [None] * outputs

    def copy(self, source: int, target: int, length: int) -> None:
        assert length <= self._lengths[source]
        self._lengths[target] = length

    def remove(self, sequence: int) -> None:
        self._lengths.pop(sequence, None)

    def truncate(self, sequence: int, length: int) -> bool:
        self._lengths[sequence] = min(self._lengths[sequence], length)
        return True

    def clear(self) -> None:
        self._lengths.clear()

    def usable(self, sequence: int, length: int, wanted: int) -> int:
        return wanted

    def state_size(self, sequence: int, end: int | None = None) -> int:
        return BYTES * self._lengths[sequence]

    def save(self, sequence: int, buffer: State, end: int | None = None) -> bool:
        buffer[:] = 0
        return True

    def load(self, sequence: int, buffer: State) -> bool:
        self._lengths[sequence] = len(buffer) // BYTES
        return True
