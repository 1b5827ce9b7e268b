"""Drafts on a fake llama.cpp: fewer steps where the text repeats, and the same text always."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from engine_fakes import VOCABULARY, Bench, GreedySampler, answer, next_token, text_of

from llmengine.engine import runner
from llmengine.errors import Internal
from llmengine.llama.choice import Choice
from llmengine.llama.context import Status
from llmengine.sampling import SamplingParams

Says = Callable[[Sequence[int]], int]


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed * 1000 + length)
    return [rng.randrange(500) for _ in range(length)]


PASSAGE = prompt(300)


def copies(tokens: Sequence[int]) -> int:
    """A model that says its prompt of 300 tokens again."""
    return PASSAGE[len(tokens) % 300]


def edits(tokens: Sequence[int]) -> int:
    """The same, but that every tenth token or so is another one."""
    said = next_token(tokens)
    return said if said % 10 == 0 else copies(tokens)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Makes benches on a machine where a step takes 20 ms, and 8 ms more for each row."""

    def make(says: Says = copies, draft_tokens: int = 15, **settings: object) -> Bench:
        found = Bench(
            draft_tokens=draft_tokens, says=says, seconds_per_step=0.02, seconds_per_row=0.008,
            **{"cells": 1024, **settings},  # type: ignore[arg-type]
        )  # fmt: skip
        monkeypatch.setattr(runner.time, "perf_counter", lambda: found.context.clock)
        return found

    return make


def said(says: Says, count: int) -> list[int]:
    tokens = list(PASSAGE)
    for _ in range(count):
        tokens.append(says(tokens))
    return tokens[300:]


def rows(made: Bench) -> list[int]:
    """Of each step."""
    return [sum(len(tokens) for _, _, tokens, _ in step) for step in made.context.steps]


def test_a_text_that_repeats_takes_few_steps(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.add("a", PASSAGE, max_tokens=100)
    made.run()
    assert made.text("a") == text_of(copies([0] * (300 + place)) for place in range(100))
    # What was said once has to come again before it is guessed, and then the drafts grow.
    assert rows(made) == [300, 1, 1, 1, 4, 4, 8, 12, 16, 16, 16, 16, 4]
    assert (made.runner.drafted_tokens, made.runner.accepted_tokens) == (87, 87)
    usage = made.last("a").usage
    assert usage is not None
    assert usage.completion_tokens == 100


def test_a_text_that_does_not_repeat_is_never_guessed(bench: Callable[..., Bench]) -> None:
    made = bench(next_token)
    made.add("a", PASSAGE, max_tokens=500)
    made.run()
    assert made.text("a") == text_of(answer(PASSAGE, 500))
    assert len(made.context.steps) == 500
    assert made.runner.drafted_tokens == 0


def test_edits_get_right_guesses_more_often_than_wrong_ones(bench: Callable[..., Bench]) -> None:
    seconds = []
    for draft_tokens in (0, 15):
        made = bench(edits, draft_tokens)
        made.add("a", PASSAGE, max_tokens=400)
        made.run()
        assert made.text("a") == text_of(said(edits, 400))
        seconds.append(made.context.clock)
    assert seconds[0] / seconds[1] > 1.3
    assert 0 < made.runner.drafted_tokens - made.runner.accepted_tokens < 150


def test_drafts_give_way_when_many_run(bench: Callable[..., Bench]) -> None:
    """One sequence that repeats itself among fifteen that do not."""

    def says(tokens: Sequence[int]) -> int:
        return copies(tokens) if tokens[0] == PASSAGE[0] else next_token(tokens)

    made = bench(says, cells=2048)
    made.add("copy", PASSAGE, max_tokens=60)
    for index in range(15):
        made.add(f"r{index}", prompt(20, seed=index + 1), max_tokens=60)
    made.run()
    assert max(rows(made)[-50:]) == 16
    assert made.runner.drafted_tokens == 0


def test_no_drafts_while_a_prompt_is_computed(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.add("a", PASSAGE, max_tokens=120)
    for _ in range(6):
        made.step()
    assert rows(made)[-1] == 4
    made.add("b", prompt(40, seed=3), max_tokens=1)
    made.step()
    assert [len(tokens) for _, _, tokens, _ in made.context.steps[-1]] == [1, 40]


def test_a_prediction_is_guessed_from_the_first_token_on(bench: Callable[..., Bench]) -> None:
    """Of 40 announced tokens 30 come, then others."""

    def says(tokens: Sequence[int]) -> int:
        return 400 + len(tokens) % 50 if len(tokens) < 300 + 30 else next_token(tokens)

    expected = said(says, 60)
    made = bench(says)
    prediction = tuple(expected[:30]) + tuple(prompt(10, seed=5))
    made.add("a", PASSAGE, max_tokens=60, prediction=prediction)
    made.run()
    assert made.text("a") == text_of(expected)
    assert rows(made)[1:4] == [4, 8, 12]
    usage = made.last("a").usage
    assert usage is not None
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (30, 10)


def test_a_wrong_prediction_costs_nothing(bench: Callable[..., Bench]) -> None:
    made = bench(next_token)
    made.add("a", PASSAGE, max_tokens=60, prediction=tuple(prompt(50, seed=7)))
    made.run()
    assert made.text("a") == text_of(answer(PASSAGE, 60))
    usage = made.last("a").usage
    assert usage is not None
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (0, 50)
    # The first token came from the prompt and was another: there was nothing to go on with.
    assert made.runner.drafted_tokens == 0


# What ends a text ends it within a draft


def drafting(bench: Callable[..., Bench], says: Says = copies, **fields: object) -> Bench:
    """A request whose ninth token and the three after it come in one step."""
    made = bench(says)
    made.add("a", PASSAGE, **{"max_tokens": 100, **fields})  # type: ignore[arg-type]
    return made


def test_a_stop_string_within_a_draft_ends_the_text_there(bench: Callable[..., Bench]) -> None:
    made = drafting(bench, stop=(f"{PASSAGE[10]} ",))
    made.run()
    assert rows(made) == [300, 1, 1, 1, 4, 4]
    assert made.text("a") == text_of(PASSAGE[:10])
    last = made.last("a")
    assert (last.finish_reason, last.stop) == ("stop", f"{PASSAGE[10]} ")
    assert last.usage is not None
    assert last.usage.completion_tokens == 11
    [slot] = made.slots.idle
    assert slot.tokens.tolist() == PASSAGE + PASSAGE[:11]


def test_an_end_token_within_a_draft_ends_the_text(bench: Callable[..., Bench]) -> None:
    made = drafting(bench)
    made.runner._model.end_tokens = frozenset({PASSAGE[10]})  # type: ignore[misc]
    made.run()
    assert made.text("a") == text_of(PASSAGE[:10])
    assert made.last("a").finish_reason == "stop"
    assert made.last("a").token_ids[-1] == PASSAGE[10]


@pytest.mark.parametrize("count", range(1, 40))
def test_no_more_tokens_come_than_were_asked_for(bench: Callable[..., Bench], count: int) -> None:
    made = drafting(bench, max_tokens=count)
    made.run()
    assert made.text("a") == text_of(said(copies, count))
    assert made.last("a").finish_reason == "length"
    assert made.runner.completion_tokens == count


class EndingSampler(GreedySampler):
    """A grammar that is complete after a number of tokens; it takes no other after them."""

    def __init__(self, count: int) -> None:
        self.left = count

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return not self.left

    def sample(self, context: object, row: int, logits: np.ndarray) -> int:
        if not self.left:
            raise Internal("nothing can follow")
        self.left -= 1
        return super().sample(context, row, logits)


@pytest.mark.parametrize("count", [1, 5, 6, 8, 13, 14, 20])
def test_a_grammar_that_ends_within_a_draft(bench: Callable[..., Bench], count: int) -> None:
    made = drafting(bench, sampler=EndingSampler(count))
    made.run()
    assert made.text("a") == text_of(said(copies, count))
    assert made.last("a").finish_reason == "stop"


class FailingSampler(GreedySampler):
    def __init__(self, count: int) -> None:
        self.left = count

    def sample(self, context: object, row: int, logits: np.ndarray) -> int:
        if not self.left:
            raise Internal("the model computed logits that are no numbers")
        self.left -= 1
        return super().sample(context, row, logits)


@pytest.mark.parametrize("count", [0, 5, 8, 13])
def test_what_came_before_a_failure_within_a_draft_is_reported(
    bench: Callable[..., Bench], count: int
) -> None:
    made = drafting(bench, sampler=FailingSampler(count))
    made.add("b", prompt(30, seed=4), max_tokens=40, sampler=GreedySampler())
    made.run()
    assert made.text("a") == text_of(said(copies, count))
    assert made.last("a").finish_reason == "error"
    assert made.last("b").finish_reason == "length"


def test_every_token_has_its_log_probability(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(model: object, logits: np.ndarray, token: int, top: int) -> tuple[int, int]:
        return token, int(logits.argmax())

    monkeypatch.setattr("llmengine.llama.sampler.logprobs", told)
    made = drafting(bench, logprobs=1, max_tokens=40)
    made.run()
    found = [each for output in made.outputs["a"] for each in output.logprobs]
    assert found == [(token, token) for token in said(copies, 40)]


# The same text, whatever happens


@pytest.mark.parametrize("pool", [0, 1 << 20], ids=["recompute", "saved"])
def test_preempted_sequences_go_on_with_their_drafts(
    bench: Callable[..., Bench], pool: int
) -> None:
    made = bench(edits, cells=800, limit=8, kept=4, pool=pool)
    for index in range(4):
        made.add(f"r{index}", PASSAGE[: 300 - index], max_tokens=150)
    made.run()
    assert made.scheduler.preemptions > 0
    assert made.runner.accepted_tokens > 0
    for index in range(4):
        tokens = PASSAGE[: 300 - index]
        for _ in range(150):
            tokens = [*tokens, edits(tokens)]
        assert made.text(f"r{index}") == text_of(tokens[300 - index :])


@pytest.mark.parametrize("window", [310, 333, 400])
def test_a_sequence_that_drops_its_oldest_tokens_does_so_where_it_would(
    bench: Callable[..., Bench], window: int
) -> None:
    made = []
    for draft_tokens in (0, 15):
        made.append(bench(edits, draft_tokens))
        made[-1].add("a", PASSAGE, max_tokens=500, keep=20, window=window)
        made[-1].run()
    plain, guessed = (each.text("a") for each in made)
    assert guessed == plain
    usages = [each.last("a").usage for each in made]
    assert usages[0] == usages[1]
    assert made[1].runner.accepted_tokens > 0


@pytest.mark.parametrize("seed", range(8))
def test_random_work_with_drafts_always_ends_right(bench: Callable[..., Bench], seed: int) -> None:
    """Shared prefixes, cancels, a small cache, failing decodes: every finished text is exact."""
    rng = random.Random(seed)
    period = rng.choice([1, 3, 20, 60])

    def says(tokens: Sequence[int]) -> int:
        said = next_token(tokens)
        return said if said % 12 == 0 or len(tokens) < period else tokens[-period]

    made = bench(says, cells=500, limit=6, kept=5, rows=64, pool=4096)
    wanted: dict[str, tuple[list[int], int]] = {}
    commons = [prompt(rng.randrange(30, 120), seed=90 + index) for index in range(3)]
    for index in range(30):
        tokens = rng.choice(commons)[: rng.randrange(10, 120)] + prompt(rng.randrange(1, 40), index)
        wanted[f"r{index}"] = (tokens, count := rng.randrange(1, 90))
        made.add(f"r{index}", tokens, max_tokens=count)
        for _ in range(rng.randrange(12)):
            if rng.random() < 0.1:
                alone = len(made.scheduler.running) < 2  # then no room would be its end
                made.context.statuses = [Status.ABORTED if alone else Status.NO_ROOM]
            made.step()
        if rng.random() < 0.15:
            made.runner.cancel(f"r{rng.randrange(index + 1)}")
    made.run()
    assert made.runner.accepted_tokens > 0
    for name, (tokens, count) in wanted.items():
        grown = list(tokens)
        for _ in range(count):
            grown.append(says(grown))
        made.check_told(name, text_of(grown[len(tokens) :]))


class DrawingSampler:
    """Draws three tokens with chances of 0.6, 0.3 and 0.1, the likeliest being the greedy one."""

    ended = False
    matcher = None

    def __init__(self, seed: int) -> None:
        self._choice = Choice(SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0), seed)

    def sample(self, context: object, row: int, logits: np.ndarray) -> int:
        likeliest = int(logits.argmax())
        spread = np.full(VOCABULARY, -np.inf, np.float32)
        for step, chance in enumerate((0.6, 0.3, 0.1)):
            spread[(likeliest + step) % VOCABULARY] = np.log(chance)
        return self._choice.draw(spread)


def test_the_sampled_distribution_is_the_same_with_drafts(bench: Callable[..., Bench]) -> None:
    """Counted over 8,000 tokens, of which drafts gave a part; and token for token, by the seed."""
    start = PASSAGE[:20]
    counts: Counter[int] = Counter()
    accepted = 0
    for seed in range(40):
        texts = []
        for draft_tokens in (0, 15):
            made = bench(lambda tokens: 100 + tokens[-1] % 2, draft_tokens, cells=256)
            made.add("a", start, max_tokens=200, sampler=DrawingSampler(seed))
            # Guesses on a machine where rows cost nothing: as many as can be.
            made.context.seconds_per_row = 0.0
            made.run()
            texts.append(made.text("a"))
        accepted += made.runner.accepted_tokens
        assert texts[0] == texts[1]
        said = [int(each) for each in texts[1].split()]
        for before, token in zip([start[-1], *said], said, strict=False):
            counts[token - 100 - before % 2] += 1
    assert accepted > 1000
    assert sum(counts.values()) == 8000
    for step, chance in enumerate((0.6, 0.3, 0.1)):
        deviation = (8000 * chance * (1 - chance)) ** 0.5
        assert abs(counts[step] - 8000 * chance) < 3 * deviation
