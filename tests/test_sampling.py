"""Sampling parameters: bounds, overrides, and when plain argmax will do."""

from __future__ import annotations

import msgspec
import pytest

from llmengine.sampling import Constraint, SamplingOverrides, SamplingParams, advised, override


def overrides(body: bytes) -> msgspec.Struct:
    return msgspec.json.decode(body, type=SamplingOverrides)


def test_what_a_request_sets_wins_and_null_is_not_set() -> None:
    defaults = SamplingParams(temperature=0.5, top_k=7)
    body = b'{"temperature": 0.1, "top_k": null, "logit_bias": {"42": -1.5}}'
    assert override(defaults, overrides(body), seed=3) == SamplingParams(
        temperature=0.1, top_k=7, logit_bias={42: -1.5}, seed=3
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"temperature": -0.1}',
        b'{"temperature": "hot"}',
        b'{"temperature": NaN}',
        b'{"top_p": 1.1}',
        b'{"top_k": -1}',
        b'{"top_k": 1.5}',
        b'{"seed": -1}',
        b'{"stop": [""]}',
        b'{"stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]}',
        b'{"max_tokens": 0}',
        b'{"logprobs": 21}',
        b'{"logit_bias": {"x": 1}}',
        b'{"logit_bias": {"1": 101}}',
        b'{"presence_penalty": 2.1}',
    ],
)
def test_values_out_of_bounds_are_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        overrides(body)


def test_advice_of_the_model_file_gives_way_to_what_was_chosen() -> None:
    chosen = SamplingParams(top_k=7)
    advice = {"temperature": 0.3, "top_k": 20}
    assert advised(chosen, advice) == SamplingParams(temperature=0.3, top_k=7)


def test_greedy_is_plain_argmax_only_when_nothing_touches_the_logits() -> None:
    assert SamplingParams(temperature=0, top_k=5, seed=1).greedy
    for changed in (
        {"logit_bias": {1: 1.0}},
        {"repeat_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"dry_multiplier": 0.8},
        {"temperature": 0.1},
    ):
        assert not SamplingParams(**{"temperature": 0, **changed}).greedy  # type: ignore[arg-type]
    # What may not follow is left out; the logits of all else are as they were.
    assert SamplingParams(temperature=0, ignore_eos=True).greedy
    assert SamplingParams(temperature=0, grammar='root ::= "a"').greedy


def test_a_constraint_goes_before_the_grammar_of_the_settings() -> None:
    assert SamplingParams().enforced is None
    settings = SamplingParams(grammar='root ::= "a"')
    assert settings.enforced == Constraint("gbnf", 'root ::= "a"')
    asked = override(settings, SamplingOverrides(), constraint=Constraint("regex", "b"))
    assert asked.enforced == Constraint("regex", "b")
    assert "constraint" not in SamplingOverrides.__struct_fields__
