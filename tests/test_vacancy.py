"""Idle slots that make way for a request that starts."""

from __future__ import annotations

import random

import pytest
from engine_fakes import Bench, answer, in_memory, text_of


def prompt(length: int, seed: int = 0) -> list[int]:
    return [random.Random(seed * 1000 + length).randrange(500) for _ in range(length)]


def bench(**options: object) -> Bench:
    return Bench(**{"cache": in_memory(), "vacates": 100, **options})  # type: ignore[arg-type]


def finish(one: Bench, name: str, tokens: list[int], count: int = 3) -> None:
    one.add(name, tokens, max_tokens=count)
    one.run()


def rest(one: Bench) -> None:
    """An idle moment."""
    while one.slots.save_next():
        pass


def lengths(one: Bench) -> list[int]:
    """Of what the idle slots hold."""
    return [slot.length for slot in one.slots.idle]


def test_what_they_hold_goes_to_the_prompt_cache() -> None:
    one = bench()
    finish(one, "old", prompt(100))
    rest(one)
    assert lengths(one) == [102]
    one.add("new", prompt(50, seed=1))
    one.step()
    assert lengths(one) == []
    assert one.slots.cells.used == 50
    one.run()
    before = one.runner.prefilled_tokens
    finish(one, "again", [*prompt(100), *answer(prompt(100), 3), 7])
    assert one.runner.prefilled_tokens - before == 2  # the last answer's last token, and the 7
    assert one.text("again") == text_of(answer([*prompt(100), *answer(prompt(100), 3), 7], 3))


def test_a_request_still_starts_from_them() -> None:
    one = bench()
    finish(one, "old", prompt(100))
    rest(one)
    finish(one, "next", [*prompt(100), *prompt(20, seed=1)])
    assert one.context.copies == 1
    assert one.runner.prefilled_tokens == 100 + 20


def test_requests_that_wait_share_with_those_that_started() -> None:
    one = bench(limit=1)
    finish(one, "old", prompt(100))
    rest(one)
    for number in range(3):
        one.add(f"r{number}", [*prompt(100), *prompt(20, seed=number + 1)])
    one.run()
    assert one.runner.prefilled_tokens == 100 + 3 * 20


def test_nothing_is_lost_that_the_cache_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench()
    finish(one, "short", prompt(10))
    finish(one, "long", prompt(100, seed=1))
    monkeypatch.setattr(one.scheduler._keeper.cache, "room", lambda size: False)  # type: ignore[union-attr]
    rest(one)
    one.add("new", prompt(50, seed=2))
    one.step()
    assert sorted(lengths(one)) == [12, 102]  # ten tokens are not worth a state


def test_they_are_saved_while_others_run() -> None:
    one = bench()
    one.add("runs", prompt(60, seed=1), max_tokens=50)
    finished = [*prompt(100), *answer(prompt(100), 3)]
    one.add("old", prompt(100), max_tokens=3)
    while one.text("old") != text_of(answer(prompt(100), 3)):
        one.step()
    one.step()
    assert lengths(one) == []
    before = one.runner.prefilled_tokens
    finish(one, "again", [*finished, 7])
    assert one.runner.prefilled_tokens - before == 2


def test_what_there_is_no_time_for_in_a_step_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmengine.engine.keeper.STEP_BYTES", 1)  # one state is let through
    one = bench(vacates=1000)
    for seed in range(3):
        finish(one, f"old{seed}", prompt(100, seed=seed))
    one.scheduler._vacates = 0
    one.add("new", prompt(50, seed=3), max_tokens=3)
    one.step()
    assert lengths(one) == [102, 102]
    one.run()
    rest(one)
    one.add("another", prompt(60, seed=4))
    one.step()
    assert lengths(one) == []


def test_a_few_cells_are_not_felt() -> None:
    one = bench(vacates=102)
    finish(one, "old", prompt(100))
    finish(one, "new", prompt(50, seed=1))
    assert lengths(one) == [102, 52]  # nobody ran beside them
    one.add("another", prompt(20, seed=2))
    one.step()
    assert lengths(one) == [52]  # the first to leave made way, and that was enough


def test_cells_that_others_share_are_not_theirs_alone() -> None:
    one = bench(vacates=10)
    common = prompt(100)
    one.add("runs", common, max_tokens=50)
    one.step()
    finish_beside = [*common, 7]
    one.add("ends", finish_beside, max_tokens=3)
    while one.text("ends") != text_of(answer(finish_beside, 3)):
        one.step()
    one.step()
    assert lengths(one) == [103]
    assert one.slots.cells.used - one.slots.running_cells == 3


def test_they_stay_where_nothing_says_otherwise() -> None:
    one = Bench(cache=in_memory())
    finish(one, "old", prompt(100))
    rest(one)
    one.add("new", prompt(50, seed=1))
    one.step()
    assert lengths(one) == [102]
