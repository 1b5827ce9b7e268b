"""A hybrid and a sliding-window model, made here: each turn from every tier, and what it costs.

Both have a template that leaves out of the past what the assistant thought.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_models
from real import Result, config, run

from llmengine.chat import prompt
from llmengine.chat.template import ChatTemplate
from llmengine.core import Host, Request, TokenLogprob
from llmengine.engine.engine import Engine
from llmengine.sampling import SamplingParams

pytestmark = pytest.mark.model

SYSTEM = {"role": "system", "content": "You are a helpful assistant. " * 8}
TURNS = 3
# The prompts of the three turns: their tokens, the end of the system message and of the turn.
LENGTHS, SYSTEM_END, TURN_ENDS = (353, 488, 623), 248, (334, 469, 604)
HEADER = 11  # tokens of "<|im_start|>assistant\n"
KINDS = {"hybrid": tiny_models.hybrid, "sliding": tiny_models.sliding_window}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[kind](tmp_path_factory.mktemp("models") / f"{kind}.gguf")


def settings(model: Path, tmp_path: Path, **options: Any) -> Any:
    options = {
        "deterministic": True,
        "context_size": 4096,
        "max_concurrent_requests": 4,
        "min_tokens": 32,
        "threads": 1,
        "path": str(tmp_path / "states"),
        **options,
    }
    return config(model, **options)


def turns(host: Host, number: int = 0) -> list[Request]:
    """The prompts of a conversation as its turns come."""
    template = ChatTemplate.of(host.info())
    messages = [SYSTEM]
    found = []
    for turn in range(TURNS):
        question = f"Question {number}{turn}: " + "what is it?  " * 5
        messages = [*messages, {"role": "user", "content": question + "really"}]
        made = prompt.of_messages(host, template, messages)
        params = SamplingParams(
            temperature=0.8 if turn % 2 else 0, seed=turn, max_tokens=24, logprobs=3
        )
        found.append(
            Request(
                id=f"{number}.{turn}",
                prompt=made.tokens,
                params=params,
                boundaries=made.boundaries,
            )
        )
        answer = f"{'hmm ' * 9}</think>Answer {turn}. " + "yes " * 5
        messages = [*messages, {"role": "assistant", "content": answer}]
    return found


def talk(engine: Engine) -> tuple[list[Result], list[int]]:
    """The answers to all turns, one after the other, and the prompt tokens computed for each."""
    results, computed = [], []
    for request in turns(engine):
        before = engine.stats().prefilled_tokens
        result = run(engine, [request])[request.id]
        results.append(result)
        computed.append(engine.stats().prefilled_tokens - before)
        assert result.usage.cached_tokens == len(request.prompt) - computed[-1]
    engine._slots.check()
    return results, computed


@pytest.fixture(scope="module")
def cold(model: Path) -> list[Result]:
    with Engine(
        config(model, deterministic=True, context_size=4096, threads=1, enabled=False)
    ) as engine:
        results, computed = talk(engine)
    assert tuple(computed) == LENGTHS
    return results


def assert_equal(kind: str, one: list[Result], other: list[Result]) -> None:
    """Equal bits; llama.cpp multiplies a recurrent layer's rows by other kernels if it is one."""
    for mine, theirs in zip(one, other, strict=True):
        assert mine.text == theirs.text
        if kind == "hybrid":
            assert _numbers(mine.logprobs) == pytest.approx(_numbers(theirs.logprobs), abs=5e-3)
        else:
            assert mine.logprobs == theirs.logprobs


def _numbers(logprobs: list[TokenLogprob]) -> list[float]:
    return [number for each in logprobs for number in (each.token, each.logprob)]


# What follows the end of the last turn; and what follows the end of this one.
NEW = [LENGTHS[0], *(LENGTHS[turn] - TURN_ENDS[turn - 1] for turn in (1, 2))]
AGAIN = [length - end for length, end in zip(LENGTHS, TURN_ENDS, strict=True)]


def test_the_prompts_part_where_they_say(model: Path, tmp_path: Path) -> None:
    with Engine(settings(model, tmp_path)) as engine:
        made = turns(engine)
        assert engine.info().needs_checkpoints
    assert [len(each.prompt) for each in made] == list(LENGTHS)
    assert [each.boundaries for each in made] == [(SYSTEM_END, end) for end in TURN_ENDS]
    for one, end, other in zip(made, TURN_ENDS, made[1:], strict=False):
        assert one.prompt[:end] == other.prompt[:end]
        assert one.prompt != other.prompt[: len(one.prompt)]


def test_from_the_slots(kind: str, model: Path, tmp_path: Path, cold: list[Result]) -> None:
    with Engine(settings(model, tmp_path, disk=False)) as engine:
        results, computed = talk(engine)
        assert_equal(kind, cold, results)
        # Cells of a sliding window can be cut off: so what both turns write is shared as well.
        more = 0 if kind == "hybrid" else HEADER
        assert computed == [NEW[0], NEW[1] - more, NEW[2] - more]
        results, computed = talk(engine)
        assert_equal(kind, cold, results)
        assert computed == (AGAIN if kind == "hybrid" else [1, 1, 1])


def test_from_memory(kind: str, model: Path, tmp_path: Path, cold: list[Result]) -> None:
    with Engine(settings(model, tmp_path, max_sequences=0, disk=False)) as engine:
        for expected in (NEW, AGAIN):
            results, computed = talk(engine)
            assert_equal(kind, cold, results)
            assert computed == expected


def test_from_disk_after_a_restart(
    kind: str, model: Path, tmp_path: Path, cold: list[Result]
) -> None:
    with Engine(settings(model, tmp_path)) as engine:
        first = turns(engine)[:2]
        for request in first:
            run(engine, [request])
    with Engine(settings(model, tmp_path)) as engine:
        results, computed = talk(engine)
    assert_equal(kind, cold, results)
    more = 0 if kind == "hybrid" else HEADER  # the third turn goes on from a slot
    assert computed == [AGAIN[0], AGAIN[1], NEW[2] - more]


@pytest.mark.parametrize("pool", [0, 64], ids=["recomputed", "saved"])
def test_after_preemption(kind: str, model: Path, tmp_path: Path, pool: int) -> None:
    def requests(engine: Engine) -> list[Request]:
        params = SamplingParams(temperature=0, max_tokens=150, logprobs=3)
        firsts = [turns(engine, number)[0] for number in range(4)]
        return [msgspec.structs.replace(each, params=params) for each in firsts]

    with Engine(settings(model, tmp_path, enabled=False)) as engine:
        alone = [run(engine, [each])[each.id] for each in requests(engine)]
    options = {"context_size": 900, "memory_pool_size_mb": pool, "disk": False}
    with Engine(settings(model, tmp_path, **options)) as engine:
        together = run(engine, requests(engine))
        assert engine.stats().preemptions > 0
        engine._slots.check()
    assert_equal(kind, alone, list(together.values()))


def test_a_system_message_is_computed_once_for_requests_that_arrive_together(
    model: Path, tmp_path: Path
) -> None:
    with Engine(settings(model, tmp_path, deterministic=False)) as engine:
        together = [turns(engine, number)[0] for number in range(4)]
        run(engine, together)
        computed = engine.stats().prefilled_tokens
    assert computed == SYSTEM_END + 4 * (LENGTHS[0] - SYSTEM_END)
