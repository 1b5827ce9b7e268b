"""Continuous batching on a fake llama.cpp: exact counts, exact tokens."""

from __future__ import annotations

import random
from typing import Any

import pytest
from engine_fakes import Bench, answer, in_memory, text_of

from llmengine.engine import runner
from llmengine.engine.scheduler import PASSED
from llmengine.llama.context import Status


def prompt(length: int, seed: int = 0) -> list[int]:
    return [random.Random(seed * 1000 + length).randrange(500) for _ in range(length)]


def test_one_request_gets_the_models_tokens() -> None:
    bench = Bench()
    bench.add("a", prompt(20), max_tokens=5)
    bench.run()
    assert bench.text("a") == text_of(answer(prompt(20), 5))
    last = bench.last("a")
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (20, 5)


def test_a_common_prefix_of_running_requests_is_computed_once() -> None:
    bench = Bench(limit=16)
    common = prompt(1200)
    for index in range(16):
        bench.add(f"r{index}", common + prompt(20, seed=index + 1))
    bench.run()
    assert bench.runner.prefilled_tokens == 1200 + 16 * 20
    for index in range(16):
        own = common + prompt(20, seed=index + 1)
        assert bench.text(f"r{index}") == text_of(answer(own, 8))
    cached = [bench.last(f"r{index}").usage.cached_tokens for index in range(16)]  # type: ignore[union-attr]
    assert cached == [0] + [1200] * 15


def test_who_waited_for_a_prefix_goes_on_when_its_owner_has_ended() -> None:
    bench = Bench()
    for name in "ab":
        bench.add(name, prompt(200), max_tokens=1)
    bench.step()
    assert bench.last("a").finish_reason == "length"
    assert not bench.runner.blocked  # or the engine would wait for a message
    bench.run()
    assert bench.text("b") == text_of(answer(prompt(200), 1))
    assert bench.last("b").usage.cached_tokens == 199  # type: ignore[union-attr]


def test_who_waited_for_a_prefix_goes_on_when_all_who_took_the_places_have_ended() -> None:
    bench = Bench(limit=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        bench.add(name, prompt(100, seed), max_tokens=5)
    while not bench.outputs["c"] or bench.last("c").finish_reason is None:
        assert bench.step() == ["a", "c"]
    assert not bench.runner.blocked
    bench.run()
    assert bench.text("b") == text_of(answer(prompt(100), 5))


def test_a_follow_up_turn_prefills_only_what_is_new() -> None:
    bench = Bench()
    first = prompt(300)
    bench.add("one", first, max_tokens=10)
    bench.run()
    reply = answer(first, 10)
    before = bench.runner.prefilled_tokens
    bench.add("two", first + reply + prompt(25, seed=9), max_tokens=3)
    bench.run()
    # The last token of the reply was sampled but never computed.
    assert bench.runner.prefilled_tokens - before == 25 + 1
    assert bench.context.copies == 0
    assert bench.text("two") == text_of(answer(first + reply + prompt(25, seed=9), 3))


@pytest.mark.parametrize("busy", [False, True])
def test_a_prompt_that_shares_the_beginning_of_a_long_one_takes_the_room_of_its_rest(
    busy: bool,
) -> None:
    bench = Bench(cells=1024)
    common = prompt(50)
    bench.add("old", common + prompt(800, seed=1), max_tokens=3)
    bench.run()
    if busy:
        bench.add("beside", prompt(20, seed=3), max_tokens=30)
        bench.step()
    new = common + prompt(700, seed=2)
    bench.add("new", new, max_tokens=3)
    bench.run(100)
    assert bench.text("new") == text_of(answer(new, 3))
    assert bench.last("new").usage.cached_tokens == 50  # type: ignore[union-attr]


def test_streams_get_a_token_in_every_step_of_a_long_prefill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(rows=512, max_itl=0.4, seconds_per_row=0.006)
    monkeypatch.setattr(runner.time, "perf_counter", lambda: bench.context.clock)
    streams = [f"s{index}" for index in range(4)]
    for index, name in enumerate(streams):
        bench.add(name, prompt(10, seed=index), max_tokens=400)
    for _ in range(5):
        bench.step()
    bench.add("long", prompt(3000), max_tokens=2)
    steps = 0
    while not bench.outputs["long"]:
        before = bench.context.clock
        named = bench.step()
        steps += 1
        assert set(streams) <= set(named)
        assert bench.context.clock - before <= 0.4
    # 0.4 s hold 66 rows; with the margin and whole chunks of 8 that is 48 or 56 prompt tokens.
    assert 3000 // 56 <= steps <= 3000 // 40
    bench.run()
    assert bench.text("long") == text_of(answer(prompt(3000), 2))


def test_alone_a_prompt_is_prefilled_in_whole_batches() -> None:
    bench = Bench(rows=512)
    bench.add("a", prompt(1100), max_tokens=1)
    bench.run()
    assert [len(step[0][2]) for step in bench.context.steps] == [512, 512, 76]


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    bench = Bench(rows=64)
    bench.add("long", prompt(2000), max_tokens=2)
    bench.step()
    for index in range(3):
        bench.add(f"s{index}", prompt(20, seed=index + 1), max_tokens=1)
    bench.step()
    # A quarter of the step, 16 rows, is the long one's; two short ones fit into the rest.
    assert [len(tokens) for _, _, tokens, _ in bench.context.steps[-1]] == [16, 20, 20, 8]
    bench.step()
    assert [name for name in ("s0", "s1", "s2") if bench.outputs[name]] == ["s0", "s1", "s2"]
    assert not bench.outputs["long"]
    bench.run()
    assert bench.text("long") == text_of(answer(prompt(2000), 2))


def test_at_most_limit_sequences_run() -> None:
    bench = Bench(limit=3)
    for index in range(7):
        bench.add(f"r{index}", prompt(9, seed=index))
    bench.step()
    assert (len(bench.scheduler.running), len(bench.scheduler.waiting)) == (3, 4)
    bench.run()
    for index in range(7):
        assert bench.text(f"r{index}") == text_of(answer(prompt(9, seed=index), 8))


@pytest.mark.parametrize("pool", [0, 1 << 20], ids=["recompute", "saved"])
@pytest.mark.parametrize("arena", [False, True], ids=["cells", "arena"])
def test_preempted_sequences_go_on_where_they_were(arena: bool, pool: int) -> None:
    bench = Bench(cells=256, limit=8, kept=4, arena=arena, pool=pool)
    for index in range(8):
        bench.add(f"r{index}", prompt(20, seed=index), max_tokens=60)
    bench.run()
    assert bench.scheduler.preemptions > 0
    for index in range(8):
        assert bench.text(f"r{index}") == text_of(answer(prompt(20, seed=index), 60))


def test_a_step_looks_at_some_of_very_many_that_wait_for_a_prefix() -> None:
    common = prompt(300)
    bench = Bench(limit=8, rows=32)
    for index in range(200):
        bench.add(f"r{index}", common + prompt(4, seed=index), max_tokens=2)
    bench.step()
    assert len(bench.scheduler.running) == 1
    assert sum(each.held for each in bench.scheduler.waiting) == PASSED
    bench.run()
    for index in range(200):
        tokens = common + prompt(4, seed=index)
        assert bench.text(f"r{index}") == text_of(answer(tokens, 2))


def test_a_sequence_alone_may_fill_the_whole_cache() -> None:
    for arena in (False, True):
        bench = Bench(cells=128, arena=arena)
        bench.add("first", prompt(50), max_tokens=20)
        bench.run()
        bench.add("all", prompt(100, seed=3), max_tokens=28)
        bench.run()
        assert bench.text("all") == text_of(answer(prompt(100, seed=3), 28))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("arena", [False, True], ids=["cells", "arena"])
@pytest.mark.parametrize("truncates", [True, False], ids=["attention", "recurrent"])
def test_random_work_always_ends_right(seed: int, arena: bool, truncates: bool) -> None:
    check_random_work(seed, arena=arena, can_truncate=truncates)


@pytest.mark.parametrize("seed", range(6))
def test_random_work_beside_idle_slots_that_make_way(seed: int) -> None:
    check_random_work(seed, vacates=100, cache=in_memory())


@pytest.mark.parametrize("seed", range(6))
def test_random_work_of_which_scattered_cells_are_not_copied(seed: int) -> None:
    check_random_work(seed, scatters=True, cache=in_memory())


def test_a_state_that_is_set_aside_ends_where_its_cells_scatter() -> None:
    bench = Bench(cells=256, limit=8, kept=4, scatters=True)
    for index in range(8):
        bench.add(f"r{index}", prompt(20, seed=index), max_tokens=60)
    while not bench.scheduler.preemptions:
        bench.step()
    aside = [each for each in bench.scheduler.waiting if each.saved]
    assert aside
    assert [each.saved_length for each in aside] == [20] * len(aside)
    bench.run()
    for index in range(8):
        assert bench.text(f"r{index}") == text_of(answer(prompt(20, seed=index), 60))


def check_random_work(seed: int, **options: Any) -> None:
    """Shared prefixes, cancels, a small cache, failing decodes: every finished text is exact."""
    rng = random.Random(seed)
    bench = Bench(cells=400, limit=6, kept=5, rows=64, pool=4096, **options)
    wanted: dict[str, tuple[list[int], int]] = {}
    commons = [prompt(rng.randrange(30, 120), seed=90 + index) for index in range(3)]
    for index in range(40):
        tokens = rng.choice(commons)[: rng.randrange(10, 120)] + prompt(rng.randrange(1, 40), index)
        count = rng.randrange(1, 60)
        bench.add(f"r{index}", tokens, max_tokens=count)
        wanted[f"r{index}"] = (tokens, count)
        for _ in range(rng.randrange(6)):
            if rng.random() < 0.1:
                bench.context.statuses = [rng.choice([Status.ABORTED, Status.NO_ROOM])]
            bench.step()
        if "cache" in options:
            bench.slots.save_next()
        if rng.random() < 0.15:
            bench.runner.cancel(f"r{rng.randrange(index + 1)}")
    bench.run()
    for name, (tokens, count) in wanted.items():
        bench.check_told(name, text_of(answer(tokens, count)))
    assert bench.runner.finished["length"] + bench.runner.finished["cancelled"] == 40


def test_a_failed_batch_ends_its_own_requests_only() -> None:
    bench = Bench(limit=2)
    bench.add("a", prompt(10), max_tokens=20)
    bench.add("b", prompt(10, seed=1), max_tokens=20)
    bench.add("c", prompt(10, seed=2), max_tokens=20)
    bench.step()
    bench.context.statuses = [Status.FAILED]
    bench.step()
    for name in ("a", "b"):
        assert bench.last(name).finish_reason == "error"
        assert bench.last(name).error is not None
    bench.run()
    assert bench.text("c") == text_of(answer(prompt(10, seed=2), 20))


@pytest.mark.parametrize("arena", [False, True])
def test_after_a_step_that_broke_off_the_books_are_empty_and_right(arena: bool) -> None:
    bench = Bench(cells=256, limit=4, arena=arena, pool=1 << 16)
    for name in "abcdef":
        bench.add(name, prompt(60, seed=ord(name)), max_tokens=100)
    while not bench.scheduler.preemptions:
        bench.step()
    preempted = next(each for each in bench.scheduler.waiting if each.started)
    bench.scheduler.running.append(preempted)  # as where an exception leaves them
    ended = bench.runner.end_all("error")[bench.sink]
    assert len({output.request_id for output in ended}) == len(ended)
    assert {output.finish_reason for output in ended} == {"error"}
    assert not bench.runner.busy
    assert bench.slots.cells.used == bench.scheduler._pool.used == 0
    bench.add("after", prompt(60), max_tokens=30)
    bench.run()
    assert bench.text("after") == text_of(answer(prompt(60), 30))


def test_nothing_is_saved_of_what_a_failed_step_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = in_memory()
    bench = Bench(cache=cache)
    bench.add("idle", prompt(60), max_tokens=3)
    bench.run()
    bench.add("failed", prompt(70), max_tokens=3)

    def save(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(bench.context, "save", save)
    (ended,) = bench.runner.end_all("error")[bench.sink]
    assert (ended.request_id, ended.finish_reason) == ("failed", "error")
    assert cache.list() == []
    assert bench.slots.cells.used == 0


def test_an_aborted_prefill_is_computed_again() -> None:
    bench = Bench(rows=64)
    bench.add("a", prompt(200), max_tokens=3)
    bench.step()
    bench.context.statuses = [Status.ABORTED]
    bench.run()
    assert bench.text("a") == text_of(answer(prompt(200), 3))


def test_cancel_frees_the_slot_and_tells_what_was_done() -> None:
    bench = Bench()
    bench.add("a", prompt(10), max_tokens=100)
    for _ in range(4):
        bench.step()
    bench.runner.cancel("a")
    bench.step()
    last = bench.last("a")
    assert last.finish_reason == "cancelled"
    assert last.usage is not None
    assert last.usage.completion_tokens == 4
    assert not bench.runner.busy


def test_an_end_token_stops() -> None:
    bench = Bench()
    tokens = prompt(10)
    bench.runner._model.end_tokens = frozenset({answer(tokens, 3)[2]})  # type: ignore[misc]
    bench.add("a", tokens, max_tokens=100)
    bench.run()
    assert bench.text("a") == text_of(answer(tokens, 2))
    assert bench.last("a").finish_reason == "stop"


def test_a_stop_string_ends_the_text_before_it() -> None:
    bench = Bench()
    tokens = prompt(10)
    made = answer(tokens, 6)
    stop = f"{made[3]} {made[4]}"
    bench.add("a", tokens, max_tokens=100, stop=(stop,))
    bench.run()
    assert bench.text("a") == text_of(made[:3])
    assert bench.last("a").stop == stop


def test_idle_slots_leave_by_policy_when_there_are_too_many() -> None:
    bench = Bench(kept=2)
    for index in range(4):
        bench.add(f"r{index}", prompt(30, seed=index), max_tokens=2)
        bench.run()
    assert len(bench.slots.idle) == 2
    before = bench.runner.prefilled_tokens
    bench.add("again", prompt(30, seed=3), max_tokens=1)
    bench.run()
    assert bench.runner.prefilled_tokens - before == 1
    bench.add("gone", prompt(30, seed=0), max_tokens=1)
    bench.run()
    assert bench.runner.prefilled_tokens - before == 1 + 30


def test_without_a_cache_nothing_stays() -> None:
    bench = Bench(kept=0)
    bench.add("a", prompt(40), max_tokens=2)
    bench.run()
    assert bench.slots.cells.used == 0
    bench.add("b", prompt(40), max_tokens=2)
    bench.run()
    assert bench.runner.prefilled_tokens == 80


def test_requests_that_began_with_cells_of_another_are_counted() -> None:
    bench = Bench()
    prompt = list(range(100))
    for name, tokens in (("a", prompt), ("b", [*prompt, 7, 8]), ("c", [300, *prompt])):
        bench.add(name, tokens, max_tokens=1)
        bench.run()
    assert (bench.slots.hits, bench.slots.hit_tokens, bench.slots.misses) == (1, 100, 2)


def test_a_prompt_that_was_unused_for_too_long_is_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("llmengine.engine.slots.time.monotonic", lambda: now)
    bench = Bench(ttl=60.0)
    for name, later, cached in (("a", 0.0, 0), ("b", 59.0, 100), ("c", 59.0, 100), ("d", 61.0, 0)):
        now += later
        bench.add(name, [*range(100), 7], max_tokens=1)
        bench.run()
        assert bench.last(name).usage.cached_tokens == cached, name
