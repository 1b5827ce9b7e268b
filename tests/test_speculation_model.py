"""Drafts on the embedded model: the text is the one that comes without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from real import chatml, config, request, run

from llmengine.core import Request
from llmengine.engine.engine import Engine
from llmengine.errors import EngineError
from llmengine.sampling import Constraint, SamplingParams

pytestmark = pytest.mark.model

LIST = "apple, pear, plum, cherry, grape, lemon, melon, peach"
REPEAT = chatml(f"Repeat after me: {LIST}.", f"{LIST}.", f"Repeat after me: {LIST}.")


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """One that guesses whenever there is anything to guess from, and one that never does."""
    settings: dict[str, Any] = {"context_size": 8192, "enabled": False}
    with (
        Engine(config(**settings)) as engine,
        Engine(config(**settings, speculation="off")) as plain,
    ):
        engine._runner._pacer.costs.relative = lambda rows: 1.0  # type: ignore[method-assign]
        yield engine, plain


def texts(engines: tuple[Engine, Engine], requests: list[Request]) -> list[dict[str, str]]:
    found = [run(each, requests) for each in engines]
    return [{name: result.text for name, result in each.items()} for each in found]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_equal_requests_get_equal_text(engines: tuple[Engine, Engine], temperature: float) -> None:
    engine, _ = engines
    before = engine.stats()
    prompts = [REPEAT, chatml("Hello!"), chatml("Tell me a story about a fox."), "one two " * 20]
    requests = [
        request(engine, f"{index}", text, temperature=temperature, seed=index, max_tokens=80)
        for index, text in enumerate(prompts)
    ]
    guessed, plain = texts(engines, requests)
    assert guessed == plain
    after = engine.stats()
    drafted = after.drafted_tokens - before.drafted_tokens
    accepted = after.accepted_tokens - before.accepted_tokens
    assert 0 < accepted < drafted
    assert after.steps - before.steps < after.completion_tokens - before.completion_tokens


def test_penalties_and_a_stop_string_see_what_they_saw_before(
    engines: tuple[Engine, Engine],
) -> None:
    engine, _ = engines
    options: list[dict[str, Any]] = [
        {"repeat_penalty": 1.1, "frequency_penalty": 0.3, "dry_multiplier": 0.5},
        {"top_n_sigma": 1.5},
        {"stop": ("melon",), "temperature": 0},
        {"ignore_eos": True, "temperature": 0},
    ]
    requests = [
        request(engine, f"{index}", REPEAT, **{"seed": 5, "max_tokens": 60, **each})
        for index, each in enumerate(options)
    ]
    guessed, plain = texts(engines, requests)
    assert guessed == plain
    assert guessed["2"].endswith("grape, ")


def test_a_prediction_is_told_in_the_usage(engines: tuple[Engine, Engine]) -> None:
    engine, plain = engines
    asked = request(engine, "a", chatml("Tell me a story about a fox."), temperature=0)
    said = run(plain, [asked])["a"].text
    prediction = tuple(engine.tokenize(said))
    announced = Request(id="b", prompt=asked.prompt, params=asked.params, prediction=prediction)
    before = engine.stats()
    result = run(engine, [announced])["b"]
    assert result.text == said
    assert result.usage.accepted_prediction_tokens == len(prediction)
    assert result.usage.rejected_prediction_tokens == 0
    assert engine.stats().steps - before.steps < len(prediction) / 4


@pytest.mark.parametrize("prediction", [(5,) * 9000, (-1,), (1_000_000,)])
def test_a_prediction_that_cannot_come_is_refused(
    engines: tuple[Engine, Engine], prediction: tuple[int, ...]
) -> None:
    asked = Request(id="a", prompt=(1, 2), params=SamplingParams(), prediction=prediction)
    with pytest.raises(EngineError) as refused:
        engines[0].submit(asked, print)
    assert refused.value.param == "prediction"


def test_a_grammar_holds_within_drafts(engines: tuple[Engine, Engine]) -> None:
    engine, _ = engines
    schema = {
        "type": "array", "minItems": 6, "maxItems": 6,
        "items": {
            "type": "object", "additionalProperties": False, "required": ["name", "number"],
            "properties": {"name": {"enum": ["one", "two"]}, "number": {"enum": [1, 2, 3]}},
        },
    }  # fmt: skip
    requests = [
        request(
            engine, f"{seed}", chatml("Hello!"), temperature=1.0, seed=seed, max_tokens=400,
            constraint=Constraint("json_schema", json.dumps(schema)),
        )
        for seed in range(4)
    ]  # fmt: skip
    before = engine.stats()
    guessed, plain = texts(engines, requests)
    assert guessed == plain
    assert all(len(json.loads(text)) == 6 for text in guessed.values())
    after = engine.stats()
    accepted = after.accepted_tokens - before.accepted_tokens
    assert accepted > (after.completion_tokens - before.completion_tokens) / 4


def test_what_a_schema_leaves_no_choice_about_is_guessed_the_first_time(
    engines: tuple[Engine, Engine],
) -> None:
    engine, _ = engines
    names = ("temperature", "description", "coordinates", "participants")
    schema = {
        "type": "object", "additionalProperties": False, "required": names,
        "properties": {name: {"enum": [1, 2, 3]} for name in names},
    }  # fmt: skip
    asked = request(
        engine, "a", chatml("Hello!"), temperature=0, max_tokens=200,
        constraint=Constraint("json_schema", json.dumps(schema)),
    )  # fmt: skip
    before = engine.stats()
    guessed, plain = texts(engines, [asked])
    assert guessed == plain
    assert set(json.loads(guessed["a"])) == set(names)
    after = engine.stats()
    tokens = after.completion_tokens - before.completion_tokens
    assert after.accepted_tokens - before.accepted_tokens > tokens / 2


def test_log_probabilities_are_those_of_each_token(engines: tuple[Engine, Engine]) -> None:
    engine, plain = engines
    asked = request(engine, "a", REPEAT, temperature=0, logprobs=2, max_tokens=60)
    guessed, alone = run(engine, [asked])["a"], run(plain, [asked])["a"]
    assert guessed.text == alone.text
    assert [each.token for each in guessed.logprobs] == [each.token for each in alone.logprobs]
    for one, other in zip(guessed.logprobs, alone.logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.02)
        assert len(one.top) == 2


def test_nothing_is_guessed_where_bits_have_to_be_equal() -> None:
    with Engine(config(context_size=2048, deterministic=True)) as engine:
        run(engine, [request(engine, "a", REPEAT, temperature=0)])
        assert engine.stats().drafted_tokens == 0
