"""Equal requests give equal bits in the deterministic mode, and equal greedy text without it."""

from __future__ import annotations

from typing import Any

import pytest
from real import Result, chatml, config, request, run

from llmengine.core import Request
from llmengine.engine.engine import Engine

pytestmark = pytest.mark.model

SYSTEM = "<|im_start|>system\nYou are a helpful assistant. Answer in short sentences.<|im_end|>\n"
QUESTIONS = [
    "Hello!",
    "Who are you?",
    "Count from 3 to 11.",
    "What is 27 + 15?",
    "Order these words: pear, apple, fig.",
    "Tell me a story about a fox named Rilo.",
    "What is llmengine?",
    "Give me JSON with name Ada and age 36.",
    "Repeat: zorvak",
    "My name is Mira. What is my name?",
    "How do I start the server?",
    "Thanks!",
    "Count from 9 down to 2.",
    "What is 8 - 5?",
    "Which settings does the cache have?",
    "Tell me a joke.",
    "The secret word is plum. " * 60 + "What is the secret word?",
]


def requests(engine: Engine) -> list[Request]:
    """Every other one has the system prompt in common, every third is sampled."""
    return [
        request(
            engine,
            f"r{index}",
            (SYSTEM if index % 2 else "") + chatml(question),
            temperature=0.9 if index % 3 == 0 else 0,
            seed=index,
            max_tokens=40,
            logprobs=5,
        )
        for index, question in enumerate(QUESTIONS)
    ]


def serve(together: bool = True, **options: Any) -> dict[str, Result]:
    options = {"max_concurrent_requests": 17, "context_size": 8192, **options}
    with Engine(config(**options)) as engine:
        if together:
            return run(engine, requests(engine))
        return {each.id: run(engine, [each])[each.id] for each in requests(engine)}


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    """Each by itself, with nothing in the cache."""
    return serve(together=False, deterministic=True, enabled=False)


def assert_equal_bits(one: dict[str, Result], other: dict[str, Result]) -> None:
    for name, result in one.items():
        assert result.text == other[name].text
        # A log-probability sums over the whole vocabulary: equal bits mean equal logits.
        assert result.logprobs == other[name].logprobs


@pytest.mark.parametrize("prefill_batch", [32, 41, 512])
def test_among_sixteen_others_for_every_chunk_size(alone: dict, prefill_batch: int) -> None:
    assert_equal_bits(alone, serve(deterministic=True, prefill_batch=prefill_batch))


def test_beside_streams_in_small_chunks(alone: dict) -> None:
    assert_equal_bits(alone, serve(deterministic=True, max_itl_ms=1.0))


def test_from_a_warm_cache(alone: dict) -> None:
    with Engine(
        config(max_concurrent_requests=17, context_size=8192, deterministic=True)
    ) as engine:
        run(engine, requests(engine))
        assert_equal_bits(alone, run(engine, requests(engine)))
        assert engine.stats().cached_tokens > engine.stats().prompt_tokens / 3


@pytest.mark.parametrize("pool", [0, 64], ids=["recomputed", "saved"])
def test_after_preemption(alone: dict, pool: int) -> None:
    with Engine(
        config(
            max_concurrent_requests=17,
            context_size=1024,
            deterministic=True,
            memory_pool_size_mb=pool,
        )
    ) as engine:
        assert_equal_bits(alone, run(engine, requests(engine)))
        assert engine.stats().preemptions > 0


def test_with_other_thread_counts(alone: dict) -> None:
    assert_equal_bits(alone, serve(deterministic=True, threads=1))


def test_greedy_text_is_equal_by_default(alone: dict) -> None:
    """Without the deterministic mode logits round differently, which greedy text survives here."""
    busy = serve()
    single = serve(together=False)
    furthest = 0.0
    for name, result in single.items():
        for one, other in zip(result.logprobs, busy[name].logprobs, strict=False):
            if one.token != other.token:
                break
            furthest = max(furthest, abs(one.logprob - other.logprob))
    print(f"largest difference of a log-probability by default: {furthest:.2e}")
    assert furthest < 0.1
    for index in range(len(QUESTIONS)):
        if index % 3:
            assert single[f"r{index}"].text == busy[f"r{index}"].text
