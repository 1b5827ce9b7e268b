"""The choice in numpy against llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import pytest

from llmengine.llama.choice import Choice, candidates
from llmengine.llama.sampler import _CANDIDATE, Sampler, _token_array
from llmengine.sampling import SamplingParams

SIZES = (1, 5, 127, 128, 990, 5_000, 30_000)
KINDS = [
    {}, {"top_k": 1}, {"top_k": 0}, {"top_k": 0, "min_p": 0.0}, {"top_p": 1.0, "min_p": 0.0},
    {"top_p": 0.3}, {"top_k": 0, "top_p": 0.5, "min_p": 0.2}, {"top_p": 0.0}, {"min_p": 1.0},
    {"top_k": 200, "top_p": 0.99, "min_p": 0.001}, {"top_k": 10**6, "top_p": 1.0, "min_p": 0.01},
]  # fmt: skip


def rows(size: int) -> list[np.ndarray]:
    random = np.random.default_rng(size)
    flat = random.normal(0, 0.5, size).astype(np.float32)
    steep = random.normal(0, 4, size).astype(np.float32)
    masked = np.where(random.random(size) < 0.9, np.float32(-np.inf), steep)
    masked[size // 2] = 1.0
    return [flat, steep, masked]


def by_llama_cpp(logits: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Tokens and their probabilities after llama.cpp's chain."""
    api = llama_cpp
    array = np.zeros(len(logits), _CANDIDATE)
    array["id"], array["logit"] = np.arange(len(logits)), logits
    array = array[np.isfinite(logits)]
    data = _token_array(array)
    chain = [api.llama_sampler_init_top_k(params.top_k)] if params.top_k else []
    chain += [api.llama_sampler_init_top_p(params.top_p, 1)] if params.top_p < 1 else []
    chain += [api.llama_sampler_init_min_p(params.min_p, 1)] if params.min_p else []
    chain += [api.llama_sampler_init_temp(params.temperature), api.llama_sampler_init_dist(1)]
    for sampler in chain:
        api.llama_sampler_apply(sampler, ctypes.byref(data))
        api.llama_sampler_free(sampler)
    return {data.data[n].id: data.data[n].p for n in range(data.size)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_the_candidates_are_those_of_llama_cpp(size: int, kind: dict[str, Any]) -> None:
    params = SamplingParams(**kind, temperature=0.7)
    for logits in rows(size):
        expected = by_llama_cpp(logits, params)
        found = candidates(logits, params)
        # Sums of floats may round to either side of top_p's border.
        different = set(found.tolist()) ^ set(expected)
        assert len(different) <= (len(expected) > 500)
        scaled = logits[found].astype(np.float64) / params.temperature
        shares = np.exp(scaled - scaled.max())
        shares /= shares.sum()
        for token, share in zip(found.tolist(), shares, strict=True):
            assert share == pytest.approx(expected.get(token, share), rel=1e-2, abs=1e-6)


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    choice = Choice(SamplingParams(temperature=1.0, top_p=1.0, min_p=0.0), seed=5)
    counts = np.bincount([choice.draw(logits) for _ in range(20_000)], minlength=4)
    expected = np.array([0.4, 0.3, 0.2, 0.1]) * 20_000
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.27  # chi-square, p = 0.001


def test_equal_seeds_draw_equally() -> None:
    logits = rows(990)[0]
    draws = [
        [choice.draw(logits) for _ in range(50)]
        for choice in (Choice(SamplingParams(), seed) for seed in (1, 1, 2))
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_logits_that_are_no_numbers_are_found_out(value: float) -> None:
    logits = np.full(300, value, np.float32)
    token = Choice(SamplingParams(), 1).draw(logits)
    assert not np.isfinite(logits[token])


def test_which_parameters_are_plain() -> None:
    assert SamplingParams(top_k=0, top_p=0.2, min_p=0.3, seed=1, ignore_eos=True).plain
    for changed in (
        {"temperature": 0}, {"mirostat": 1}, {"typical_p": 0.9}, {"top_n_sigma": 1.0},
        {"xtc_probability": 0.5}, {"logit_bias": {1: 1.0}}, {"repeat_penalty": 1.1},
        {"presence_penalty": 0.5}, {"dry_multiplier": 0.8},
    ):  # fmt: skip
        assert not SamplingParams(**changed).plain  # type: ignore[arg-type]


class Model:
    end_tokens = frozenset({3, 7})


def test_without_an_end_the_likeliest_other_token_is_chosen() -> None:
    logits = np.array([0, 5, 1, 9, 2, 5.5, 3, 8], np.float32)
    before = logits.copy()
    sampler = Sampler(Model(), SamplingParams(temperature=0, ignore_eos=True), (), 8)  # type: ignore[arg-type]
    assert sampler.sample(None, 0, logits) == 5
    assert np.array_equal(logits, before)


def test_without_an_end_draws_are_those_among_the_other_tokens() -> None:
    logits = rows(990)[1]
    logits[[3, 7]] = logits.max() + 1
    before, others = logits.copy(), logits.copy()
    others[[3, 7]] = -np.inf
    params = SamplingParams(ignore_eos=True, seed=4, temperature=2.0)
    sampler, choice = Sampler(Model(), params, (), 8), Choice(params, 4)  # type: ignore[arg-type]
    drawn = [sampler.sample(None, 0, logits) for _ in range(100)]
    assert drawn == [choice.draw(others) for _ in range(100)]
    assert np.array_equal(logits, before)


def test_what_was_drawn_elsewhere_is_skipped_with_what_was_drawn_again() -> None:
    logits = rows(990)[0]
    whole, rest = Choice(SamplingParams(), 1), Choice(SamplingParams(), 1)
    for number in range(20):
        whole.draw(logits)
        rest.skip()
        if number % 3 == 0:
            whole.draw_again(logits)
    assert [whole.draw(logits), whole.draw_again(logits)] == [
        rest.draw(logits),
        rest.draw_again(logits),
    ]
