"""A request that goes on where an engine that was lost had left it, on the embedded model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from real import chatml, config, request, run

from llmengine.core import Output, Request
from llmengine.engine.engine import Engine
from llmengine.sampling import Constraint

pytestmark = pytest.mark.model

WILD = {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.02, "seed": 7}
DIGITS = Constraint("regex", "[0-9 ]{20,40}!")
SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "greedy with penalties": {"temperature": 0, "repeat_penalty": 1.3, "frequency_penalty": 0.4},
    "seeded": {"seed": 3},
    "seeded, the largest seed": {"seed": 2**32 - 1, "top_n_sigma": 1.5},
    "repetition penalties": {**WILD, "repeat_penalty": 1.2, "presence_penalty": 0.5},
    "DRY": {**WILD, "dry_multiplier": 0.8, "dry_allowed_length": 1},
    "typical and XTC": {**WILD, "typical_p": 0.9, "xtc_probability": 0.5, "xtc_threshold": 0.05},
    "bias": {**WILD, "logit_bias": {300: 5.0, 301: -100.0}},
    "one candidate": {**WILD, "top_k": 1, "ignore_eos": True},
    "grammar": {**WILD, "constraint": DIGITS},
    "grammar, greedy": {"temperature": 0, "constraint": DIGITS},
    "grammar with penalties": {**WILD, "constraint": DIGITS, "repeat_penalty": 1.5},
    "log-probabilities": {"seed": 5, "logprobs": 3},
    "stop strings": {**WILD, "stop": ("the end.", "ing a", "e t", "qqqq"), "logprobs": 1},
    "thinking": {**WILD, "thinking_tags": ("", "</think>"), "thinking_budget": 9},
}


def settings(**options: Any) -> Any:
    return config(
        context_size=4096, deterministic=True, enabled=False, max_concurrent_requests=4, **options
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(settings()) as engine:
        yield engine


def outputs(engine: Engine, *requests: Request) -> dict[str, list[Output]]:
    found: dict[str, list[Output]] = {each.id: [] for each in requests}
    run(engine, requests, found)
    return found


def resumed(whole: Request, name: str, before: list[Output]) -> Request:
    """The request behind what `before` reported."""
    tokens = tuple(token for output in before for token in output.token_ids)
    return replace(whole, id=name, completion=tokens)


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_it_goes_on_with_what_would_have_come(engine: Engine, sampling: dict[str, Any]) -> None:
    asked = request(engine, "whole", chatml("Tell me of a fox."), **{"max_tokens": 40, **sampling})
    told = outputs(engine, asked)["whole"]
    assert len(told) >= 4
    cuts = sorted({1, len(told) // 3, len(told) - 2, len(told) - 1})
    parts = outputs(engine, *(resumed(asked, str(cut), told[:cut]) for cut in cuts))
    for cut in cuts:
        rest = parts[str(cut)]
        missing = told[cut:]
        for found in ("text", "token_ids", "logprobs"):
            assert [getattr(each, found) for each in rest] == [
                getattr(each, found) for each in missing
            ]
        last, expected = rest[-1], told[-1]
        assert (last.finish_reason, last.stop) == (expected.finish_reason, expected.stop)
        assert last.usage.completion_tokens == expected.usage.completion_tokens


def test_a_bound_on_its_tokens_counts_all_of_them(engine: Engine) -> None:
    asked = request(engine, "whole", chatml("Tell me of a fox."), max_tokens=10, ignore_eos=True)
    told = outputs(engine, replace(asked, params=replace(asked.params, seed=1)))["whole"]
    rest = outputs(engine, resumed(asked, "rest", told[:4]))["rest"]
    assert len(told) >= 5
    assert sum(each.tokens for each in rest) == 10 - sum(each.tokens for each in told[:4])
    assert rest[-1].finish_reason == "length"
    assert rest[-1].usage.completion_tokens == 10


def test_what_the_cache_had_is_used_and_only_the_prompt_counts_as_cached(engine: Engine) -> None:
    with Engine(config(context_size=4096)) as engine:
        asked = request(engine, "whole", chatml("Tell me of a fox. " * 8), temperature=0)
        told = outputs(engine, asked)["whole"]
        assert told[-1].usage.cached_tokens == 0
        rest = outputs(engine, resumed(asked, "rest", told[:-1]))["rest"]
        assert rest[-1].usage.cached_tokens == len(asked.prompt)
        assert rest[-1].text == told[-1].text
