"""The bound on thinking: its block is closed by force, the answer goes on."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import TEMPLATE, FakeHost
from grammars import END, matcher
from real import chatml, config, request, run
from serving import serving

from llmengine.chat.template import ChatTemplate
from llmengine.engine.engine import Engine
from llmengine.llama.matcher import Matcher
from llmengine.llama.sampler import Sampler
from llmengine.llama.thinking import ThinkingBudget
from llmengine.sampling import Constraint, SamplingParams


class Bytes:
    """A model whose tokens are single bytes."""

    vocabulary = END + 1
    end_tokens = frozenset({END})

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())


def written(wish: str, budget: int, tags: tuple[str, str] = ("<t>", "</t>")) -> str:
    """What comes of a model that wishes to write `wish`, whatever is put in between."""
    guard, found = ThinkingBudget(Bytes(), tags, budget), []  # type: ignore[arg-type]
    for token in wish.encode():
        while (due := guard.due) is not None:
            found.append(due)
            guard.saw(due)
        found.append(token)
        guard.saw(token)
    return bytes(found).decode(errors="replace")


@pytest.mark.parametrize(
    ("wish", "budget", "found"),
    [
        ("<t>abcdef", 3, "<t>abc</t>def"),
        (" \n<t>abcdef", 0, " \n<t></t>abcdef"),
        ("<t>ab</t>cdef<t>ghi", 2, "<t>ab</t></t>cdef<t>ghi"),  # one token beyond the bound
        ("<t>ab</t>cdefgh", 6, "<t>ab</t>cdefgh"),
        ("<t>ab</t>cdefgh", 9, "<t>ab</t>cdefgh"),
        ("abc<t>defgh", 1, "abc<t>defgh"),  # an answer about tags
        ("<table>", 0, "<table>"),
        ("<t>a</tdef", 3, "<t>a</</t>tdef"),
        ("<t>aé€b", 2, "<t>aé</t>€b"),  # no character is cut in two
        ("<t>a😀b", 2, "<t>a😀</t>b"),
    ],
)
def test_a_block_is_closed_at_the_bound(wish: str, budget: int, found: str) -> None:
    assert written(wish, budget) == found


def test_a_prompt_may_have_opened_the_block() -> None:
    assert written("abcdef", 4, ("", "</t>")) == "abcd</t>ef"
    assert written("abcdef", 0, ("", "</t>")) == "</t>abcdef"


def test_bytes_that_never_make_a_character_end_too() -> None:
    guard = ThinkingBudget(Bytes(), ("", "</t>"), 1)  # type: ignore[arg-type]
    for _ in range(4):
        assert guard.due is None
        guard.saw(0xC3)
    assert guard.due == ord("<")


def sampled(params: dict[str, Any], wish: str, constraint: Constraint | None = None) -> str:
    """What a sampler chooses where the model likes the next letter of `wish` best."""
    held = Matcher(matcher(constraint), "grammar") if constraint else None
    given = SamplingParams(thinking_tags=("<t>", "</t>"), **params)
    sampler = Sampler(Bytes(), given, (), 64, held)  # type: ignore[arg-type]
    text = bytearray()
    left = list(wish.encode())
    while left and not sampler.ended:
        logits = np.zeros(END + 1, np.float32)
        logits[left[0]] = 50
        token = sampler.sample(None, 0, logits)  # type: ignore[arg-type]
        text.append(token)
        if token == left[0]:
            left.pop(0)
    return text.decode()


@pytest.mark.parametrize("params", [{"temperature": 0}, {"top_k": 5, "seed": 1}])
def test_the_sampler_forces_the_tag(params: dict[str, Any]) -> None:
    assert sampled({"thinking_budget": 2, **params}, "<t>abcd") == "<t>ab</t>cd"
    assert sampled(params, "<t>abcd") == "<t>abcd"


@pytest.mark.parametrize("params", [{"temperature": 0}, {"temperature": 0, "repeat_penalty": 1.01}])
def test_the_form_of_the_answer_begins_behind_it(params: dict[str, Any]) -> None:
    form = Constraint("regex", "[0-9]{2}", thinking=("<t>", "</t>"))
    assert sampled({"thinking_budget": 2, **params}, "<t>abc12", form)[:9] == "<t>ab</t>"
    assert sampled({"thinking_budget": 2, **params}, "<t>ab12", form) == "<t>ab</t>12"


def test_penalties_see_forced_tokens() -> None:
    params = {"temperature": 0, "presence_penalty": 2.0, "thinking_budget": 0}
    given = SamplingParams(thinking_tags=("", "x"), **params)
    sampler = Sampler(Bytes(), given, (), 64)  # type: ignore[arg-type]
    logits = np.zeros(END + 1, np.float32)
    logits[ord("x")], logits[ord("y")] = 5, 4
    assert sampler.sample(None, 0, logits) == ord("x")  # type: ignore[arg-type]
    assert sampler._choose(logits) == ord("y")


def test_tags_of_templates() -> None:
    plain = ChatTemplate(TEMPLATE, "", "")
    assert plain.thought_tags("hi") == ("<think>", "</think>")
    assert plain.thought_tags("hi<think>\n") == ("", "</think>")
    harmony = ChatTemplate("<|channel|><|message|>{{ messages[0].content }}", "", "")
    assert harmony.thought_tags("") == ("<|channel|>analysis<|message|>", "<|end|>")


def asked(body: dict[str, Any]) -> SimpleNamespace:
    """The sampling parameters and the prompt that a chat becomes; or what refused it."""
    with FakeHost() as host, serving(host) as client:
        messages = [{"role": "user", "content": "hi"}]
        answer = client.post("/v1/chat/completions", json={"messages": messages, **body})
        if answer.status_code != 200:
            return SimpleNamespace(param=answer.json()["error"]["param"])
        found = host.requests[0]
        text = bytes(each for each in found.prompt if each < 256).decode()
        return SimpleNamespace(params=found.params, opened=text.endswith("<think>\n"))


def test_what_a_body_says_of_thinking() -> None:
    on = {"chat_template_kwargs": {"enable_thinking": True}}
    found = asked({"thinking_budget": 7, **on})
    assert (found.params.thinking_budget, found.params.thinking_tags) == (7, ("", "</think>"))
    assert found.opened
    found = asked({"thinking_budget": 7})
    assert found.params.thinking_tags == ("<think>", "</think>")
    assert not found.opened
    found = asked({"reasoning": {"max_tokens": 9}})
    assert (found.params.thinking_budget, found.opened) == (9, True)
    assert asked({"reasoning": {"effort": "low"}}).opened
    assert asked({"reasoning": {"enabled": True}}).opened
    assert not asked({"reasoning": {"enabled": False}, "reasoning_effort": "high"}).opened
    assert not asked({"reasoning": {}}).opened
    assert asked({"reasoning": {"max_tokens": 9}, "thinking_budget": 7}).param == "thinking_budget"
    assert asked({"thinking_budget": -1}).param == "thinking_budget"


def test_a_text_has_no_thinking() -> None:
    with FakeHost() as host, serving(host) as client:
        answer = client.post("/v1/completions", json={"prompt": "a", "thinking_budget": 3})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "thinking_budget"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(config(context_size=4096, max_concurrent_requests=8, enabled=False)) as found:
        yield found


@pytest.mark.model
def test_the_embedded_model_answers_after_a_short_thought(engine: Engine) -> None:
    prompt = chatml("What is 35 minus 12?") + "<think>\n"
    form = Constraint("regex", "[0-9]{2}!", thinking=("", "</think>"))
    variants: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0},
        "penalised": {"temperature": 0, "repeat_penalty": 1.1},
        "plain": {"temperature": 1.5, "seed": 3},
        "held": {"temperature": 1.5, "seed": 3, "constraint": form},
    }
    for budget in (0, 5):
        tags = {"thinking_tags": ("", "</think>"), "thinking_budget": budget}
        results = run(
            engine, [request(engine, f"{name}{budget}", prompt, **tags, **more)
                     for name, more in variants.items()]
        )  # fmt: skip
        for name in variants:
            thought, _, answer = results[f"{name}{budget}"].text.partition("</think>")
            assert len(engine.tokenize(thought)) <= budget
            assert answer
            if budget == 0:
                assert thought == ""
        assert results[f"held{budget}"].text.rstrip()[-1] == "!"


@pytest.mark.model
def test_a_bound_far_away_changes_nothing(engine: Engine) -> None:
    prompt = chatml("What is 35 minus 12?") + "<think>\n"
    tags = {"thinking_tags": ("", "</think>"), "temperature": 0, "max_tokens": 80}
    free = run(engine, [request(engine, "free", prompt, **tags)])["free"].text
    far = run(engine, [request(engine, "far", prompt, thinking_budget=1000, **tags)])["far"].text
    assert far == free
