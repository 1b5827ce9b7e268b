"""The embedded model as its own draft model: the text is the same, in fewer steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import real
import tiny_models
from msgspec.structs import replace
from real import chatml, config, request, run

from llmengine import hardware
from llmengine.engine import fit
from llmengine.engine.engine import Engine
from llmengine.errors import ConfigError, EngineError, ModelNotFound
from llmengine.hardware import Memory
from llmengine.llama import kinship
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model

pytestmark = pytest.mark.model

QUESTIONS = ["Hello!", "Tell me a story about a fox.", "What is a cat?", "Name three colours."]


def eager(engine: Engine) -> None:
    """As if neither rows nor drafts took any time: whether they pay is not the question here."""
    speculator = engine._scheduler._speculator
    assert speculator is not None
    assert speculator._model is not None
    engine._runner._pacer.costs.relative = lambda rows: 1.0  # type: ignore[method-assign]
    speculator._model.seconds = lambda *_: 0.0  # type: ignore[method-assign]
    speculator._planner.has_time = lambda _: True  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """One whose draft model knows all that it will say, and one that never guesses."""
    settings: dict[str, Any] = {"context_size": 8192, "enabled": False}
    with (
        Engine(config(**settings, draft_model=str(real.MODEL))) as engine,
        Engine(config(**settings, speculation="off")) as plain,
    ):
        eager(engine)
        yield engine, plain


def counts(engine: Engine) -> Counter[str]:
    found = engine.stats()
    return Counter(
        steps=found.steps,
        tokens=found.completion_tokens,
        drafted=found.drafted_tokens,
        accepted=found.accepted_tokens,
    )


def test_greedy_text_is_equal_and_takes_few_steps(engines: tuple[Engine, Engine]) -> None:
    engine, plain = engines
    assert engine.info().draft_model == "tiny-chat"
    before = counts(engine)
    asked = request(engine, "a", chatml(QUESTIONS[1]), temperature=0, max_tokens=200)
    assert run(engine, [asked])["a"].text == run(plain, [asked])["a"].text
    made = counts(engine) - before
    assert made["accepted"] > 0.9 * made["drafted"]
    assert made["steps"] < made["tokens"] / 3


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_sampled_text_is_equal(engines: tuple[Engine, Engine], temperature: float) -> None:
    """Random numbers belong to places: the same are drawn, and from the same logits."""
    engine, plain = engines
    requests = [
        request(engine, f"{seed}", chatml(text), temperature=temperature, seed=seed, max_tokens=60)
        for seed, text in enumerate(QUESTIONS)
    ]
    before = counts(engine)
    guessed, alone = run(engine, requests), run(plain, requests)
    assert {name: each.text for name, each in guessed.items()} == {
        name: each.text for name, each in alone.items()
    }
    made = counts(engine) - before
    assert 0 < made["accepted"] < made["drafted"]
    assert made["steps"] < made["tokens"] / 2


def test_the_sampled_distribution_is_unchanged(engines: tuple[Engine, Engine]) -> None:
    """The sixth token of many answers, drafted or not: counted with different seeds."""
    engine, plain = engines
    places = []
    accepted = counts(engine)["accepted"]
    for each, seeds in ((engine, range(300)), (plain, range(1000, 1300))):
        requests = [
            request(each, f"{seed}", chatml("Hello!"), temperature=1.0, seed=seed, max_tokens=6)
            for seed in seeds
        ]
        results: list[str] = []
        for start in range(0, 300, 16):
            found = run(each, requests[start : start + 16])
            results += [result.text for result in found.values()]
        places.append(Counter(text.split()[:2][-1] for text in results if text.split()))
    assert counts(engine)["accepted"] > accepted + 100
    one, other = places
    for word in one.keys() | other.keys():
        share = (one[word] + other[word]) / 600
        deviation = (600 * share * (1 - share)) ** 0.5
        assert abs(one[word] - other[word]) <= 4 * deviation


def test_eight_streams_at_once(engines: tuple[Engine, Engine]) -> None:
    engine, plain = engines
    requests = [
        request(engine, f"{index}", chatml(*QUESTIONS[:1], "Hi!", QUESTIONS[index % 4]), seed=index)
        for index in range(8)
    ]
    before = counts(engine)
    guessed, alone = run(engine, requests), run(plain, requests)
    assert {name: each.text for name, each in guessed.items()} == {
        name: each.text for name, each in alone.items()
    }
    made = counts(engine) - before
    assert made["accepted"] > made["tokens"] / 4


def test_an_answer_goes_on_after_its_oldest_tokens_were_dropped() -> None:
    settings: dict[str, Any] = {"context_size": 1024, "max_sequence_length": 256}
    with Engine(config(**settings, draft_model="tiny-chat")) as engine:
        eager(engine)
        asked = request(engine, "a", chatml(QUESTIONS[1]), temperature=0, ignore_eos=True)
        asked = replace(asked, keep=4, params=replace(asked.params, max_tokens=500))
        result = run(engine, [asked])["a"]
        assert result.usage.completion_tokens == 500
        assert result.usage.dropped_tokens > 0
        assert counts(engine)["accepted"] > 200


def test_a_decode_that_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, engines: tuple[Engine, Engine]
) -> None:
    """llama.cpp fails to compute one batch in ten of the draft model's."""
    engine, plain = engines
    _, draft = engine._contexts
    decode, calls = Context.decode, iter(range(10**9))

    def failing(self: Context) -> Status:
        return Status.FAILED if self is draft and next(calls) % 10 == 9 else decode(self)

    monkeypatch.setattr(Context, "decode", failing)
    asked = request(engine, "a", chatml(QUESTIONS[1]), temperature=0, max_tokens=200)
    assert run(engine, [asked])["a"].text == run(plain, [asked])["a"].text
    assert next(calls) > 10


# What cannot go together


def refusal(**settings: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        Engine(config(**{"draft_model": str(real.MODEL), "context_size": 512, **settings}))
    assert "\n" not in caught.value.message
    return caught.value


def test_a_draft_model_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tiny_models.turning(tmp_path / "other.gguf")
    refused = refusal(draft_model=str(path))
    assert isinstance(refused, ConfigError)
    assert refused.message == (
        "other.gguf cannot draft for tiny-chat.gguf: its vocabulary has 320 tokens, not "
        f"{Model(real.MODEL, config()).vocabulary}; choose one of the same family, or none"
    )


def test_tokens_are_compared_by_their_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Model(tiny_models.turning(tmp_path / "one.gguf"), config())
    same = Model(tiny_models.sliding_window(tmp_path / "same.gguf"), config())
    monkeypatch.setattr(tiny_models, "SPECIALS", [*tiny_models.SPECIALS[:2], "<|fin|>"])
    other = Model(tiny_models.sliding_window(tmp_path / "other.gguf"), config())
    assert kinship.difference(model, same) is None
    assert kinship.difference(model, other) == "its token 319 is '<|fin|>', not '<|end|>'"
    for each in (model, same, other):
        each.close()


def test_models_whose_state_cannot_be_cut_are_refused(tmp_path: Path) -> None:
    path = tiny_models.hybrid(tmp_path / "hybrid.gguf")
    for settings in ({"draft_model": str(path)}, {"model_path": str(path)}):
        assert refusal(**settings).message == (
            "model.draft_model cannot be used with hybrid.gguf: its recurrent layers cannot take "
            "back what was guessed wrong"
        )


def test_settings_that_allow_no_drafts_are_named() -> None:
    assert 'performance.speculation = "off"' in refusal(speculation="off").message
    assert "performance.deterministic" in refusal(deterministic=True).message


def test_a_draft_model_that_is_not_there_is_named() -> None:
    refused = refusal(draft_model="gone.gguf")
    assert isinstance(refused, ModelNotFound)
    assert refused.message.startswith("no draft model gone.gguf: looked for gone.gguf, ")


def test_its_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(mebibytes: int, **settings: Any) -> int | None:
        monkeypatch.setattr(hardware, "memory", lambda: Memory(64 << 30, mebibytes << 20))
        return fit.cells(real.MODEL, config(context_size=4096, **settings))

    least = next(each for each in range(80, 2000, 10) if _fits(cells, each))
    with pytest.raises(EngineError) as refused:
        cells(least, draft_model=str(real.MODEL))
    assert refused.value.message.startswith("tiny-chat.gguf with tiny-chat.gguf needs ")
    assert 'model.draft_model = ""' in refused.value.message
    assert cells(2 * least, draft_model=str(real.MODEL)) == 4096


def _fits(cells: Any, mebibytes: int) -> bool:
    try:
        cells(mebibytes)
    except EngineError:
        return False
    return True
