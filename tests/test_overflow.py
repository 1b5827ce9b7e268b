"""Answers that go on when their context is full: what is dropped, and that nobody else notices."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_fakes import Bench, answer, next_token, text_of
from real import chatml, config, request, run
from tiny_models import hybrid

from llmengine.core import Request, TokenLogprob
from llmengine.engine.engine import Engine
from llmengine.errors import ConfigError, InvalidRequest


def slid(prompt: list[int], count: int, *, keep: int, window: int) -> tuple[list[int], int]:
    """A lone sequence's completion when the older half goes whenever it is full."""
    tokens, written, dropped = list(prompt), [], 0
    while len(written) < count:
        if len(tokens) >= window:
            gone = (len(tokens) - keep) // 2
            del tokens[keep : keep + gone]
            dropped += gone
        written.append(next_token(tokens))
        tokens.append(written[-1])
    return written, dropped


@pytest.mark.parametrize("keep", [0, 7, 48])
def test_the_older_half_behind_the_head_makes_room(keep: int) -> None:
    bench, prompt = Bench(cells=64), list(range(30))
    bench.add("a", prompt, 100, keep=keep, window=64)
    bench.run()
    written, dropped = slid(prompt, 100, keep=keep, window=64)
    assert bench.text("a") == text_of(written)
    usage = bench.last("a").usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.dropped_tokens) == (
        30,
        100,
        dropped,
    )
    assert bench.last("a").finish_reason == "length"
    assert bench.context.shifts > 0
    assert bench.runner.prefilled_tokens == 30  # nothing was computed again


@pytest.mark.parametrize(
    ("length", "keep", "left"), [(30, 0, 0), (30, 7, 7), (20, 40, 20), (60, 0, 28), (60, 8, 32)]
)
def test_what_was_computed_beside_others_is_known_after_a_slide(
    length: int, keep: int, left: int
) -> None:
    bench = Bench(cells=256, scatters=True)
    for name in ("a", "b"):
        prompt = [ord(name), *range(1, length)]
        bench.add(name, prompt, 100, keep=keep, window=64)
    while len(bench.scheduler.running) < 2 or bench.context.shifts < 2:
        for sequence in bench.scheduler.running:
            assert sequence.slot
            assert sequence.slot.scattered in (None, length)
        bench.step()
    assert [each.slot and each.slot.scattered for each in bench.scheduler.running] == [left, left]


@pytest.mark.parametrize("keep", [0, 7])
def test_what_slid_beside_others_may_be_set_aside(keep: int) -> None:
    bench = Bench(cells=100, scatters=True)
    prompts = {"a": list(range(30)), "b": list(range(50, 80))}
    for name, prompt in prompts.items():
        bench.add(name, prompt, 100, keep=keep, window=64)
    bench.run()
    assert bench.scheduler.preemptions
    for name, prompt in prompts.items():
        assert bench.text(name) == text_of(slid(prompt, 100, keep=keep, window=64)[0])


def test_one_that_was_lost_goes_on_with_what_it_had_not_dropped() -> None:
    bench, prompt = Bench(cells=64), list(range(30))
    bench.add("a", prompt, 150, keep=4, window=64)
    bench.run()
    written, dropped = slid(prompt, 150, keep=4, window=64)
    assert [token for each in bench.outputs["a"] for token in each.token_ids] == written
    for had in (1, 34, 35, 120):
        bench.add("b", prompt, 150, keep=4, window=64, completion=written[:had])
        bench.run()
        assert bench.text("b") == text_of(written[had:])
        usage = bench.last("b").usage
        assert usage is not None
        assert (usage.completion_tokens, usage.dropped_tokens) == (150, dropped)


def test_tokens_whose_text_is_held_back_are_told_though_they_are_dropped() -> None:
    bench, prompt = Bench(cells=64), list(range(30))
    written, _ = slid(prompt, 100, keep=0, window=64)
    bench.add("a", prompt, 100, keep=0, window=64, stop=(text_of(written[:80]) + "never",))
    bench.run()
    assert bench.text("a") == text_of(written)
    assert [token for each in bench.outputs["a"] for token in each.token_ids] == written


def test_cells_that_another_slot_shares_do_not_move() -> None:
    """Two answers to one prompt: what they share beyond the dropped half is computed again."""
    bench, prompt = Bench(cells=256), list(range(60))
    for name in "ab":
        bench.add(name, prompt, 90, keep=4, window=64)
    bench.add("c", prompt, 90)  # an ordinary one beside them
    bench.run()
    written, _ = slid(prompt, 90, keep=4, window=64)
    assert bench.text("a") == bench.text("b") == text_of(written)
    assert bench.text("c") == text_of(answer(prompt, 90))


def test_what_was_computed_before_a_drop_serves_no_other_prompt() -> None:
    bench, prompt = Bench(cells=256), list(range(40))
    bench.add("a", prompt, 60, keep=0, window=64)
    bench.run()
    assert bench.slots.idle == []
    assert bench.slots.cells.used == 0


def test_many_slide_in_a_cache_that_is_too_small_for_them() -> None:
    """They are preempted and resumed in between, with states that are whole."""
    bench = Bench(cells=160, kept=4)
    prompts = {f"r{index}": [index * 7 + at for at in range(20 + index)] for index in range(5)}
    for name, prompt in prompts.items():
        bench.add(name, prompt, 150, keep=3, window=64)
    bench.run()
    for name, prompt in prompts.items():
        assert bench.text(name) == text_of(slid(prompt, 150, keep=3, window=64)[0])
    assert bench.scheduler.preemptions > 0


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(config(context_size=512, max_sequence_length=128)) as engine:
        yield engine


def asked(engine: Engine, id: str, text: str, keep: int | None, **params: object) -> Request:
    made = request(engine, id, text, **{"temperature": 0, "ignore_eos": True, **params})
    return Request(id=id, prompt=made.prompt, params=made.params, keep=keep)


@pytest.mark.model
def test_the_model_goes_on_beyond_its_context(engine: Engine) -> None:
    plain = run(engine, [asked(engine, "a", chatml("Tell me a story."), None, max_tokens=None)])[
        "a"
    ]
    found = run(engine, [asked(engine, "a", chatml("Tell me a story."), 4, max_tokens=400)])["a"]
    assert plain.reason == found.reason == "length"
    assert found.usage.completion_tokens == 400
    assert found.usage.dropped_tokens >= 400 - 128
    assert plain.usage.dropped_tokens == 0
    assert found.text.startswith(plain.text)
    assert len(set(found.text[-200:])) > 5  # still words, not one letter


@pytest.mark.model
def test_without_a_bound_an_answer_ends_after_one_more_context(engine: Engine) -> None:
    found = run(engine, [asked(engine, "a", chatml("Hello!"), 0, max_tokens=None)])["a"]
    assert (found.reason, found.usage.completion_tokens) == ("length", 128)


@pytest.mark.model
def test_others_in_the_batch_get_what_they_get_alone(engine: Engine) -> None:
    """They share a prompt, and with it cells, with those that drop and move theirs."""
    text = chatml("Count from 1 to 9.")
    alone = run(engine, [asked(engine, "a", text, None, ignore_eos=False)])["a"].text
    moving = [asked(engine, f"m{index}", text, 2, max_tokens=300) for index in range(3)]
    quiet = [asked(engine, f"q{index}", text, None, ignore_eos=False) for index in range(3)]
    found = run(engine, [*moving, *quiet])
    assert [found[each.id].text for each in quiet] == [alone] * 3
    again = run(engine, [asked(engine, "a", text, None, ignore_eos=False)])["a"]
    assert again.text == alone
    engine._slots.check()


@pytest.mark.model
def test_moved_tokens_are_the_same_whatever_is_guessed(engine: Engine) -> None:
    """Drafts stop where the context is full; what they change is the rounding of a step."""

    def written(engine: Engine) -> list[TokenLogprob]:
        asks = asked(engine, "a", chatml("Tell me a story."), 4, max_tokens=300, logprobs=1)
        return run(engine, [asks])["a"].logprobs

    small = config(context_size=512, max_sequence_length=128, speculation="off")
    with Engine(small) as plain:
        alone = written(plain)
        assert written(plain) == alone  # now with a prefix that is there already
    guessed = written(engine)
    for one, other in zip(alone, guessed, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.05)
        if one.piece != other.piece:
            break  # the two were all but equally likely, and the texts part here


@pytest.mark.model
def test_a_head_that_leaves_no_room_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="97 tokens at the head would stay, and 96 may") as at:
        engine.submit(asked(engine, "a", "Hello", 97), queue.SimpleQueue().put)
    assert at.value.param == "n_keep"


@pytest.mark.model
def test_models_that_cannot_move_tokens_say_so(tmp_path: Path) -> None:
    model = hybrid(tmp_path / "hybrid.gguf")
    with Engine(config(model, context_size=256)) as engine:
        assert not engine.info().shifts
        with pytest.raises(InvalidRequest, match="cannot drop tokens while it writes"):
            engine.submit(asked(engine, "a", "Hello", 0), queue.SimpleQueue().put)
    with pytest.raises(ConfigError, match=r'model.overflow = "shift": this model cannot'):
        Engine(config(model, context_size=256, overflow="shift"))


@pytest.mark.model
def test_equal_bits_and_moved_tokens_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r'promises equal bits, which model.overflow = "shift"'):
        Engine(config(deterministic=True, overflow="shift"))
    with Engine(config(deterministic=True, context_size=256)) as engine:
        assert not engine.info().shifts
