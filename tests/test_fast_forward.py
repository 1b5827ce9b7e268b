"""What is guessed ahead of a grammar, over a vocabulary of single bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from engine_fakes import GreedySampler
from grammars import matcher

from llmengine.core import Request
from llmengine.engine.costs import Costs
from llmengine.engine.fast_forward import FastForward
from llmengine.engine.sequence import Sequence
from llmengine.engine.speculate import Speculator
from llmengine.engine.work import Work
from llmengine.llama.matcher import Matcher
from llmengine.sampling import Constraint, SamplingParams

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}  # fmt: skip


def text(tokens: Iterable[int]) -> str:
    return bytes(list(tokens)).decode()


class Answer:
    """One that is held to a grammar, as it is written."""

    def __init__(self, constraint: Constraint | None = None) -> None:
        self.matcher = Matcher(
            matcher(constraint or Constraint("json_schema", json.dumps(SCHEMA))), "response_format"
        )
        sampler = GreedySampler()
        sampler.matcher = self.matcher
        request = Request(id="a", prompt=(1, 2, 3), params=SamplingParams())
        self.sequence = Sequence(request, print, sampler, 1000)  # type: ignore[arg-type]
        self.guesser = FastForward(self.sequence, self.matcher)

    def says(self, said: str) -> Answer:
        for token in said.encode():
            assert self.matcher.take(token), said
            self.sequence.tokens.append(token)
            self.guesser.follow()
            self.guesser.odds(15)  # as each step asks
        return self

    def guess(self, most: int = 15) -> str:
        return text(self.guesser.draft(len(self.guesser.odds(most))))


def test_what_the_grammar_forces_is_guessed() -> None:
    answer = Answer()
    assert answer.guess() == "{"
    assert answer.says('{"').guess() == 'name"'  # then a blank may come, or none
    assert answer.guesser.odds(2) == pytest.approx([0.95, 0.95**2], abs=0.02)
    assert answer.guess(2) == "na"
    assert answer.says("na").guess() == 'me"'


def test_the_matcher_stays_where_it_was() -> None:
    answer = Answer().says('{"')
    assert answer.guess() == 'name"'
    assert answer.matcher.take(ord("n"))
    assert not answer.matcher.take(ord("n"))


def test_what_it_costs_does_not_grow_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Matcher] = []
    copy = Matcher.copy
    monkeypatch.setattr(Matcher, "copy", lambda self: (copies.append(self), copy(self))[1])
    records = Constraint("json_schema", json.dumps({"type": "array", "items": SCHEMA}))
    answer = Answer(records).says("[")
    for number in range(50):
        answer.says(f'{{"name": "{number * 7}", "age": {number}, "city":"{number * 3}" }},')
    assert answer.says('{"').guess() == 'name": "3'
    assert copies == [answer.matcher]


def test_a_long_run_of_forced_tokens_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    forced = Matcher.forced.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Matcher, "forced", property(lambda self: looks.append(1) or forced(self)))
    answer = Answer(Constraint("choice", json.dumps(["a long way to go" * 100])))
    assert answer.guess() == "a long way to g"
    assert len(looks) == 1


def test_between_forced_tokens_habits_are_guessed() -> None:
    """Behind the first key came `: "`, behind its value `, "`."""
    assert Answer().says('{"name": "Ada", "').guess() == 'age": '
    # A number has no quotes, so the grammar does not let the habit go on.
    assert Answer().says('{"name": "Ada", "age": 7, "').guess(8) == 'city": "'


def test_of_habits_the_one_is_guessed_that_the_grammar_leaves() -> None:
    records = Constraint("json_schema", json.dumps({"type": "array", "items": SCHEMA}))
    first = '[{"name": "Ada", "age": 7, "city": "Rome"}, {"name":'
    assert Answer(records).says(first).guess(2) == ' "'
    assert Answer(records).says(first + ' "Bo", "age":').guess(2) == " "


def test_a_habit_that_is_broken_is_expected_less() -> None:
    answer = Answer(Constraint("regex", "[abxyz]*"))
    assert answer.says("ababab").guess(1) == "a"
    assert answer.says("a").guesser.odds(1)[0] > 0.6  # a b
    answer.says("xayazaxayazaxayaza")  # and now there is no saying
    assert answer.guesser.odds(1)[0] < 0.4
    assert answer.says("bababab").guesser.odds(1)[0] > 0.6  # b a, as ever


def test_nothing_is_guessed_behind_the_end() -> None:
    answer = Answer(Constraint("choice", json.dumps(["yes", "no"])))
    assert answer.says("y").guess() == "es"
    assert answer.says("es").guess() == ""
    assert answer.matcher.ended


def test_a_text_under_no_grammar_has_no_such_guesser() -> None:
    request = Request(id="a", prompt=(1, 2, 3), params=SamplingParams())
    free = Sequence(request, print, GreedySampler(), 1000)  # type: ignore[arg-type]
    held = Answer().says('{"').sequence
    step = [Work(free, 1, True), Work(held, 1, True)]
    costs = Costs()
    costs.relative = lambda rows: 1 + rows / 100  # type: ignore[method-assign]
    Speculator(costs, 15, max_itl=0.4).draft(step, 100)
    assert free.fast_forward is None
    assert text(step[1].draft) == "na"  # which fills four rows
    assert text(step[0].draft) == ""
