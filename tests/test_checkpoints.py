"""Models that can't drop a tail: states at boundaries of the prompt, on a fake llama.cpp."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from engine_fakes import Bench, answer, in_memory, text_of

from llmengine.cache.disk_tier import DiskTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.engine.checkpoints import Checkpoints


def prompt(length: int, seed: int = 0) -> list[int]:
    return [random.Random(seed * 1000 + length).randrange(500) for _ in range(length)]


SYSTEM, QUESTION, HEADER = prompt(200, 1), prompt(100, 2), prompt(5, 3)
FIRST = SYSTEM + QUESTION + HEADER
BOUNDARIES = (200, 300)
# The next turn as a template without the reasoning has it: from the answer on, all is different.
SECOND = FIRST[:300] + prompt(70, 4)


def on_disk(path: Path) -> PromptCache:
    return PromptCache(None, DiskTier(path / "states", 1 << 20, 100, 0, LRU()))


def prefilled(bench: Bench, name: str, tokens: list[int], boundaries: tuple[int, ...] = ()) -> int:
    """Tokens computed for a prompt, after a check of its text."""
    before = bench.runner.prefilled_tokens
    bench.add(name, tokens, max_tokens=6, boundaries=boundaries)
    bench.run()
    assert bench.text(name) == text_of(answer(tokens, 6))
    computed = bench.runner.prefilled_tokens - before
    assert bench.last(name).usage.cached_tokens == len(tokens) - computed  # type: ignore[union-attr]
    return computed


@pytest.mark.parametrize(
    ("length", "boundaries", "points"),
    [
        (50, (), ()),  # shorter than what is worth it
        (100, (), (99,)),
        (100, (20, 70), (70,)),  # near enough to the end
        (100, (40, 100), (99,)),
        (200, (80, 85), (80, 85, 199)),
        (3000, (), (1000, 2000, 2999)),
        (3000, (990, 2999), (990, 2000, 2999)),
        (16_001, (), (*range(2000, 16_000, 2000), 16_000)),
    ],
)
def test_where_states_are_kept(
    length: int, boundaries: tuple[int, ...], points: tuple[int, ...]
) -> None:
    assert Checkpoints(every=1000, least=64).of(length, boundaries) == points


def test_no_regular_ones_if_they_are_switched_off() -> None:
    assert Checkpoints(every=0, least=64).of(3000, (100,)) == (100, 2999)


def test_the_next_turn_computes_only_what_follows_the_last_boundary() -> None:
    bench = Bench(can_truncate=False)
    assert prefilled(bench, "one", FIRST, BOUNDARIES) == 305
    assert prefilled(bench, "two", SECOND, (200, 365)) == 70
    assert prefilled(bench, "same", FIRST, BOUNDARIES) == 5
    assert prefilled(bench, "again", SECOND, (200, 365)) == 5
    assert prefilled(bench, "other", SYSTEM + prompt(40, 9), (200,)) == 40


def test_an_answer_that_stays_is_not_computed_again() -> None:
    bench = Bench(can_truncate=False)
    prefilled(bench, "one", FIRST, BOUNDARIES)
    whole = FIRST + answer(FIRST, 6)
    # The last token of the answer was sampled but never computed.
    assert prefilled(bench, "two", whole + prompt(40, 5), BOUNDARIES) == 41


def test_a_step_ends_at_a_boundary_while_streams_go_on() -> None:
    bench = Bench(can_truncate=False, rows=128)
    bench.add("stream", prompt(10, 8), max_tokens=40)
    bench.step()
    bench.add("one", FIRST, max_tokens=2, boundaries=BOUNDARIES)
    while not bench.outputs["one"]:
        assert "stream" in bench.step()
    ends = {
        position + len(tokens) for step in bench.context.steps for _, position, tokens, _ in step
    }
    assert {200, 300, 305} <= ends
    assert bench.context.copies == 2
    bench.run()
    assert bench.text("stream") == text_of(answer(prompt(10, 8), 40))


@pytest.mark.parametrize("arena", [False, True], ids=["cells", "arena"])
def test_requests_that_arrive_together_compute_a_common_boundary_once(arena: bool) -> None:
    bench = Bench(can_truncate=False, arena=arena)
    for index in range(8):
        bench.add(f"r{index}", SYSTEM + prompt(30, 20 + index), boundaries=(200,))
    bench.run()
    assert bench.runner.prefilled_tokens == 200 + 8 * 30
    for index in range(8):
        own = SYSTEM + prompt(30, 20 + index)
        assert bench.text(f"r{index}") == text_of(answer(own, 8))
    cached = [bench.last(f"r{index}").usage.cached_tokens for index in range(8)]  # type: ignore[union-attr]
    assert cached == [0] + [200] * 7


def test_equal_prompts_at_once_compute_all_but_the_last_token_once() -> None:
    bench = Bench(can_truncate=False)
    for index in range(4):
        bench.add(f"r{index}", FIRST)
    bench.run()
    assert bench.runner.prefilled_tokens == len(FIRST) + 3
    assert {bench.text(f"r{index}") for index in range(4)} == {text_of(answer(FIRST, 8))}


@pytest.mark.parametrize("arena", [False, True], ids=["cells", "arena"])
def test_from_memory_alone(arena: bool) -> None:
    bench = Bench(cache=in_memory(), kept=0, can_truncate=False, arena=arena, cells=2048)
    prefilled(bench, "one", FIRST, BOUNDARIES)
    assert arena or not bench.slots.idle
    assert prefilled(bench, "two", SECOND, (200, 365)) == 70
    assert prefilled(bench, "other", SYSTEM + prompt(40, 9), (200,)) == 40


def test_from_disk_after_a_restart(tmp_path: Path) -> None:
    cache = on_disk(tmp_path)
    bench = Bench(cache=cache, can_truncate=False)
    prefilled(bench, "one", FIRST, BOUNDARIES)
    while bench.slots.save_next():
        pass
    cache.close()
    again = on_disk(tmp_path)
    bench = Bench(cache=again, can_truncate=False)
    assert prefilled(bench, "two", SECOND, (200, 365)) == 70
    # Those that were loaded once are shared from then on.
    for index in range(4):
        bench.add(f"r{index}", SYSTEM + prompt(30, 20 + index), boundaries=(200,))
    before = bench.runner.prefilled_tokens
    bench.run()
    assert bench.runner.prefilled_tokens - before == 4 * 30
    stats = again.stats().disk
    assert stats is not None
    assert stats.hits == 2
    again.close()


def test_states_that_come_back_are_right_after_preemption() -> None:
    bench = Bench(can_truncate=False, cells=700, limit=4, kept=8, pool=0)
    for index in range(4):
        tokens = SYSTEM + prompt(90, 30 + index)
        bench.add(f"r{index}", tokens, max_tokens=120, boundaries=(200,))
    bench.run()
    assert bench.scheduler.preemptions > 0
    for index in range(4):
        assert bench.text(f"r{index}") == text_of(answer(SYSTEM + prompt(90, 30 + index), 120))
    # What was preempted went on from a checkpoint: the system prompt was computed once.
    again = bench.runner.prefilled_tokens - (200 + 4 * 90)
    assert 0 < again < bench.scheduler.preemptions * (90 + 120)


def test_checkpoints_leave_by_policy_like_other_slots() -> None:
    bench = Bench(can_truncate=False, kept=3)
    for index in range(6):
        prefilled(bench, f"r{index}", prompt(100, 40 + index), (50,))
    assert len(bench.slots.idle) == 3
    assert prefilled(bench, "latest", prompt(100, 45), (50,)) == 1
    assert prefilled(bench, "first", prompt(100, 40), (50,)) == 100
