"""A draft model beside a fake llama.cpp: what it reads and writes, and when it is asked."""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Callable, Sequence

import pytest
from engine_fakes import (
    Bench,
    FakeBatch,
    FakeDraftContext,
    FakeEncoder,
    answer,
    image_tokens,
    next_token,
    text_of,
)

from llmengine.core import Media
from llmengine.engine import runner
from llmengine.engine.accuracy import Accuracy
from llmengine.engine.readings import Readings
from llmengine.llama.context import Status

Says = Callable[[Sequence[int]], int]


def prompt(length: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(500) for _ in range(length)]


PROMPT = prompt(40, seed=1)


def wrong(tokens: Sequence[int]) -> int:
    return (next_token(tokens) + 1) % 500


def often_right(tokens: Sequence[int]) -> int:
    """Three tokens of four or so."""
    said = next_token(tokens)
    return said if said % 4 else wrong(tokens)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """A machine where a step takes 20 ms and 2 ms more for each row, a draft's a tenth of it."""

    def make(drafts: Says | None = next_token, room: int = 4096, **settings: object) -> Bench:
        draft = None
        if drafts:
            draft = FakeDraftContext(
                room, says=drafts, height=20.0, seconds_per_step=0.002, seconds_per_row=0.0002
            )
        found = Bench(
            draft_tokens=15, draft=draft, seconds_per_step=0.02, seconds_per_row=0.002,
            **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        monkeypatch.setattr(runner.time, "perf_counter", lambda: found.clock)
        return found

    return make


def rows(made: Bench) -> list[int]:
    return [sum(len(tokens) for _, _, tokens, _ in step) for step in made.context.steps]


def asked(made: Bench) -> int:
    """Batches that the draft model computed."""
    assert made.draft
    return len(made.draft.steps)


def test_what_is_always_right_gives_many_tokens_a_step(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.add("a", PROMPT, max_tokens=101)
    made.run()
    assert made.text("a") == text_of(answer(PROMPT, 101))
    # Nothing of this text repeats: all is the draft model's, which read the prompt in two pieces
    # and is trusted more and more.
    assert rows(made) == [40, 1, 4, 4, 4, 4, 4, 8, 8, 12, 16, 16, 16, 1, 1, 1]
    assert (made.runner.drafted_tokens, made.runner.accepted_tokens) == (85, 85)
    assert made.draft
    first, *others = made.draft.steps[:3]
    assert first == [(0, 0, PROMPT[:32], False)]
    assert [[len(tokens) for _, _, tokens, _ in step] for step in others] == [[10], [1]]


def test_its_time_is_told(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.add("a", PROMPT, max_tokens=101)
    made.run()
    total = made.runner.decode_seconds + made.runner.prefill_seconds
    assert total == pytest.approx(made.clock)


def test_what_is_always_wrong_is_hardly_ever_asked(bench: Callable[..., Bench]) -> None:
    plain = bench(None)
    plain.add("a", PROMPT, max_tokens=1000)
    plain.run()
    made = bench(wrong)
    made.add("a", PROMPT, max_tokens=1000)
    made.run()
    assert made.text("a") == text_of(answer(PROMPT, 1000))
    assert made.runner.accepted_tokens == 0
    assert len(made.context.steps) == 1000
    assert 0 < asked(made) < 200
    assert made.clock < 1.05 * plain.clock


def test_the_next_request_begins_with_what_the_last_one_learned(
    bench: Callable[..., Bench],
) -> None:
    made = bench(wrong)
    made.add("a", PROMPT, max_tokens=60)
    made.run()
    before = asked(made)
    assert before > 0
    made.add("b", PROMPT[::-1], max_tokens=30)
    made.run()
    assert asked(made) == before


def test_a_model_that_is_often_right_pays(bench: Callable[..., Bench]) -> None:
    seconds = []
    for drafts in (None, often_right):
        made = bench(drafts)
        made.add("a", PROMPT, max_tokens=400)
        made.run()
        assert made.text("a") == text_of(answer(PROMPT, 400))
        seconds.append(made.clock)
    assert seconds[0] / seconds[1] > 1.2
    assert 0 < made.runner.accepted_tokens < made.runner.drafted_tokens


def test_a_model_as_slow_as_the_other_is_not_asked_for_long(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made.draft
    made.draft.seconds_per_step, made.draft.seconds_per_row = 0.02, 0.002
    made.add("a", PROMPT, max_tokens=500)
    made.run()
    plain = bench(None)
    plain.add("a", PROMPT, max_tokens=500)
    plain.run()
    assert made.clock < 1.05 * plain.clock


def test_text_that_repeats_is_guessed_without_asking(bench: Callable[..., Bench]) -> None:
    def copies(tokens: Sequence[int]) -> int:
        return PROMPT[len(tokens) % 40]

    made = bench(wrong, says=copies)
    made.add("a", PROMPT * 3, max_tokens=200)
    made.run()
    assert made.runner.accepted_tokens > 150
    assert asked(made) < 20


def test_several_sequences_are_drafted_in_one_batch(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.add("a", PROMPT, max_tokens=101)  # it is found to be right
    made.run()
    prompts = {f"r{index}": [*PROMPT[:20], index] for index in range(4)}
    for name, tokens in prompts.items():
        made.add(name, tokens, max_tokens=60)
    made.run()
    for name, tokens in prompts.items():
        assert made.text(name) == text_of(answer(tokens, 60))
    assert made.draft
    assert [1, 1, 1, 1] in [[len(tokens) for _, _, tokens, _ in step] for step in made.draft.steps]
    assert made.runner.accepted_tokens == made.runner.drafted_tokens > 250
    assert len(made.context.steps) < 60


def test_it_rests_while_many_run(bench: Callable[..., Bench]) -> None:
    made = bench(often_right, limit=32)
    made.context.seconds_per_row = 0.02  # as where arithmetic is the limit
    for index in range(32):
        made.add(f"r{index}", [*PROMPT[:20], index], max_tokens=100)
    made.run()
    assert made.runner.drafted_tokens < 100
    assert asked(made) < 20


def test_a_long_prompt_is_read_in_pieces_beside_the_steps(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made.draft
    made.draft.seconds_per_row = 0.0005
    long = prompt(1500, seed=5)
    made.add("a", long, max_tokens=200)
    before, slowest = 0.0, 0.0
    while made.runner.busy:
        made.step()
        if made.runner.completion_tokens > 1:
            slowest = max(slowest, made.clock - before)
        before = made.clock
    assert made.text("a") == text_of(answer(long, 200))
    assert made.runner.accepted_tokens > 100
    assert slowest < 0.2


def test_a_prefix_that_another_has_read_is_not_read_again(bench: Callable[..., Bench]) -> None:
    made = bench()
    common = prompt(400, seed=6)
    made.add("a", [*common, 1], max_tokens=60)
    made.run()
    assert made.draft
    before = sum(len(tokens) for step in made.draft.steps for _, _, tokens, _ in step)
    made.add("b", [*common, 2], max_tokens=60)
    made.run()
    after = sum(len(tokens) for step in made.draft.steps for _, _, tokens, _ in step)
    assert made.text("b") == text_of(answer([*common, 2], 60))
    assert after - before < 120


def test_a_prompt_with_an_image_has_no_drafts_of_it(bench: Callable[..., Bench]) -> None:
    made = bench(encoder=FakeEncoder())
    picture = Media("image", bytes([20]))
    made.add("a", [*PROMPT[:5], *image_tokens(picture), 7], max_tokens=60, images=(picture,))
    made.run()
    assert made.last("a").finish_reason == "length"
    assert asked(made) == 0


@pytest.mark.parametrize("window", [60, 83, 120])
def test_a_sequence_that_drops_its_oldest_tokens_goes_on_with_drafts(
    bench: Callable[..., Bench], window: int
) -> None:
    texts = []
    for drafts in (None, often_right):
        made = bench(drafts)
        made.add("a", PROMPT, max_tokens=300, keep=10, window=window)
        made.run()
        texts.append(made.text("a"))
    assert texts[0] == texts[1]
    assert made.runner.accepted_tokens > 50


# When it cannot


def test_what_was_not_used_for_longest_makes_room(bench: Callable[..., Bench]) -> None:
    made = bench(room=150)
    for index in range(6):
        tokens = [*PROMPT[index:], index]
        made.add(f"r{index}", tokens, max_tokens=40)
        made.run()
        assert made.text(f"r{index}") == text_of(answer(tokens, 40))
    assert made.runner.drafted_tokens == made.runner.accepted_tokens > 150


def test_where_there_is_no_room_at_all_it_goes_on_without(bench: Callable[..., Bench]) -> None:
    made = bench(room=30)
    made.add("a", PROMPT, max_tokens=200)
    made.run()
    assert made.text("a") == text_of(answer(PROMPT, 200))
    assert made.runner.drafted_tokens == 0
    assert len(made.context.steps) == 200


def test_a_batch_that_fails_is_no_draft_and_no_error(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    made = bench()
    assert made.draft
    made.add("a", PROMPT, max_tokens=300)
    for _ in range(4):
        made.step()
    accepted = made.runner.accepted_tokens
    assert accepted > 0
    made.draft.statuses = [Status.FAILED]
    with caplog.at_level(logging.WARNING):
        made.run()
    assert made.text("a") == text_of(answer(PROMPT, 300))
    assert made.runner.accepted_tokens > accepted + 100
    assert caplog.messages == ["the draft model could not compute a batch"]


def test_a_model_that_always_fails_is_turned_off(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    made = bench()
    assert made.draft
    made.draft.statuses = [Status.FAILED] * 100
    made.add("a", PROMPT, max_tokens=600)
    made.run()
    assert made.text("a") == text_of(answer(PROMPT, 600))
    assert len(made.draft.statuses) == 97
    told = "the draft model could not compute a batch"
    assert caplog.messages == [told, told, f"{told}: it is used no more"]


@pytest.mark.parametrize("seed", range(6))
def test_random_work_always_ends_right(bench: Callable[..., Bench], seed: int) -> None:
    """Shared prefixes, cancels, small caches, batches that fail: every finished text is exact."""
    rng = random.Random(seed)
    room = rng.choice([150, 600])
    made = bench(often_right, room, cells=300, limit=6, kept=5, rows=64, pool=4096)
    assert made.draft
    wanted: dict[str, tuple[list[int], int]] = {}
    for index in range(25):
        tokens = PROMPT[: rng.randrange(5, 40)] + prompt(rng.randrange(1, 60), index)
        count = rng.randrange(1, 90)
        wanted[f"r{index}"] = tokens, count
        made.add(f"r{index}", tokens, max_tokens=count)
        for _ in range(rng.randrange(15)):
            if rng.random() < 0.02 and not made.draft.statuses:
                made.draft.statuses = [Status.FAILED]
            made.step()
        if rng.random() < 0.15:
            made.runner.cancel(f"r{rng.randrange(index + 1)}")
    made.run()
    assert made.scheduler.preemptions > 0
    assert asked(made) > 0
    for name, (tokens, count) in wanted.items():
        made.check_told(name, text_of(answer(tokens, count)))


# Its parts


def test_accuracy_is_learned_by_how_sure_the_model_is() -> None:
    general = Accuracy()
    one = Accuracy(general)
    for _ in range(100):
        one.learn(0.99, True)
        one.learn(0.2, False)
    assert one.odds(0.98) > 0.99
    assert one.odds(0.3) < 0.01
    assert one.odds(0.6) == 0.6  # never seen
    other = Accuracy(general)
    assert (other.odds(0.98), other.hope) == (one.odds(0.98), one.hope)


def test_hope_comes_back_while_nothing_is_drafted() -> None:
    one = Accuracy()
    for _ in range(50):
        one.learn(0.9, False)
    assert one.hope < 0.01
    for _ in range(300):
        one.forgive()
    assert 0.5 < one.hope < 0.7


def readings(cells: int = 1000) -> tuple[Readings, FakeDraftContext]:
    context = FakeDraftContext(cells, height=20.0)
    return Readings(context), context  # type: ignore[arg-type]


def read(found: Readings, slot: int, tokens: list[int], room: int = 512) -> Status:
    found.begin()
    found.read(slot, array("i", tokens), room)
    return found.compute()


def test_only_what_is_new_is_read() -> None:
    found, context = readings()
    read(found, 0, PROMPT)
    read(found, 0, [*PROMPT[:30], 7, 8])
    assert context.batch.items == [(0, 30, [7, 8], True)]
    assert context.tokens(0) == [*PROMPT[:30], 7, 8]
    read(found, 0, [*PROMPT[:30], 7, 8])  # the last one again, for its logits
    assert context.batch.items == [(0, 31, [8], True)]


def test_a_long_prefix_of_another_sequence_is_shared() -> None:
    found, context = readings()
    read(found, 0, PROMPT)
    read(found, 1, [*PROMPT, 5])
    assert (context.copies, context.batch.items) == (1, [(1, 40, [5], True)])
    read(found, 2, [*PROMPT[:20], 5])
    assert (context.copies, context.batch.items) == (1, [(2, 0, [*PROMPT[:20], 5], True)])


def test_a_batch_that_did_not_fit_leaves_what_was_there() -> None:
    found, context = readings(50)
    read(found, 0, PROMPT)
    assert read(found, 1, PROMPT[::-1]) is Status.OK  # in place of the other
    assert context.tokens(0) == []
    assert read(found, 1, [*PROMPT[::-1], *range(20)]) is Status.NO_ROOM
    assert context.tokens(1) == PROMPT[::-1]
    assert found.known(1, array("i", [*PROMPT[::-1], 3])) == 40
    assert isinstance(context.batch, FakeBatch)
