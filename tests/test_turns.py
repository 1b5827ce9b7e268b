"""Turns of a conversation whose template leaves out what was thought, on models that can cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from engine_fakes import Bench, answer, text_of

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache


def tokens(length: int, seed: int) -> list[int]:
    return [random.Random(seed).randrange(500) for _ in range(length)]


HEADER, THINK = [490, 491, 492], [493, 494]
TURN = [tokens(150, 1), tokens(80, 2), tokens(90, 3)]  # the first with the system message
TOLD = [[495, *tokens(39, 4)], [496, *tokens(39, 5)]]  # answers as they are told again
PROMPTS = [
    TURN[0] + HEADER + THINK,
    TURN[0] + HEADER + TOLD[0] + TURN[1] + HEADER + THINK,
    TURN[0] + HEADER + TOLD[0] + TURN[1] + HEADER + TOLD[1] + TURN[2] + HEADER + THINK,
]
# From the first token that was thought on: the answer as it is told, the new turn, its header.
NEW = [len(PROMPTS[0]), 40 + 80 + 3 + 2, 40 + 90 + 3 + 2]


def cache_of(kind: str, folder: Path) -> PromptCache | None:
    if kind == "slots":
        return None
    memory = MemoryTier(1 << 20, 100, 0, LRU()) if kind == "memory" else None
    disk = DiskTier(folder, 1 << 20, 100, 0, LRU()) if kind == "disk" else None
    return PromptCache(memory, disk)


@pytest.mark.parametrize("kind", ["slots", "memory", "disk"])
def test_a_turn_computes_only_what_follows_the_last_one(tmp_path: Path, kind: str) -> None:
    computed = []
    cache = cache_of(kind, tmp_path / "states")
    bench = Bench(cache=cache, kept=0 if cache else 16)
    for number, prompt in enumerate(PROMPTS):
        if kind == "disk" and number:  # each turn after a restart
            assert cache is not None
            cache.close()
            cache = cache_of(kind, tmp_path / "states")
            bench = Bench(cache=cache, kept=0)
        before = bench.runner.prefilled_tokens
        bench.add(f"t{number}", prompt, max_tokens=60)
        bench.run()
        assert bench.text(f"t{number}") == text_of(answer(prompt, 60))
        computed.append(bench.runner.prefilled_tokens - before)
    assert computed == NEW
    if cache:
        cache.close()


def test_what_a_longer_entry_replaced_is_still_found_in_it() -> None:
    cache = cache_of("memory", Path())
    assert cache is not None
    bench = Bench(cache=cache, kept=0)
    bench.add("one", PROMPTS[0], max_tokens=20)
    bench.run()
    longer = PROMPTS[0] + answer(PROMPTS[0], 20) + tokens(100, 9)
    bench.add("two", longer, max_tokens=20)
    bench.run()
    assert [each.tokens for each in cache.list()] == [len(longer) + 19]
    before = bench.runner.prefilled_tokens
    bench.add("three", PROMPTS[1], max_tokens=5)
    bench.run()
    assert bench.runner.prefilled_tokens - before == NEW[1]
    assert bench.text("three") == text_of(answer(PROMPTS[1], 5))
