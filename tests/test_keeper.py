"""What a step may copy out of llama.cpp."""

from __future__ import annotations

from array import array

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.keeper import STEP_BYTES, Keeper


class States:
    """Sequences whose states have the sizes given; nothing is written."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.saved: list[int] = []

    def state_size(self, sequence: int, end: int | None = None) -> int:
        return self.sizes[sequence]

    def save(self, sequence: int, buffer: object, end: int | None = None) -> bool:
        self.saved.append(sequence)
        return True


def keeper(states: States) -> Keeper:
    cache = PromptCache(MemoryTier(10 * STEP_BYTES, 100, 0.0, LRU()), None)
    return Keeper(cache, states, min_tokens=1, whole=False)


def save_all(found: Keeper, states: States) -> list[int]:
    """The sequences saved by one step that would save all."""
    states.saved.clear()
    found.begin_step()
    for sequence in range(len(states.sizes)):
        found.save(sequence, "scope", array("i", [sequence + 1, 7]))
    return list(states.saved)


def test_a_step_copies_no_more_than_its_share() -> None:
    half = STEP_BYTES // 2
    states = States(half, half, half, half)
    found = keeper(states)
    assert save_all(found, states) == [0, 1]
    assert save_all(found, states) == [2, 3]  # the first two are there already
    assert save_all(found, states) == []


def test_a_state_larger_than_that_is_copied_alone() -> None:
    states = States(STEP_BYTES + 1, STEP_BYTES + 1, 100)
    found = keeper(states)
    assert save_all(found, states) == [0]
    assert save_all(found, states) == [1]
    assert save_all(found, states) == [2]
