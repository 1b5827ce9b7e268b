"""Requests that outgrow the context: refused, or less of them is read and the usage says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import httpx
import openai
import pytest
import real
from fakes import BOS, FakeHost
from msgspec.structs import replace
from serving import config, events, serving

from llmengine.config import Config, ModelConfig

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
LIMIT = 400
SYSTEM = {"role": "system", "content": "Be brief."}
LEFT = {"overflow": "truncate_left"}


def said(host: FakeHost) -> str:
    """What the model was given last, without the marks of the template."""
    text = host.detokenize(host.requests[-1].prompt)
    for mark in ("<|im_start|>", "<|im_end|>"):
        text = text.replace(mark, "")
    return text


def turns(count: int, words: int = 40) -> list[dict[str, str]]:
    """Questions and answers, each with its number, the last one a question."""
    found = []
    for index in range(count):
        found.append({"role": "user", "content": f"question {index} ".ljust(words, ".")})
        found.append({"role": "assistant", "content": f"answer {index} ".ljust(words, ".")})
    return found[:-1]


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost(context=LIMIT) as host:
        yield host


def usage(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["usage"]
    return found


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


def test_by_default_nothing_is_dropped(client: httpx.Client) -> None:
    for more in ({}, {"overflow": "error"}):
        answer = client.post(CHAT, json={"messages": turns(9), **more})
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            400,
            "context_length_exceeded",
        )


def test_the_oldest_turns_go_and_the_system_message_stays(
    client: httpx.Client, host: FakeHost
) -> None:
    messages = [SYSTEM, *turns(9)]
    found = usage(client.post(CHAT, json={"messages": messages, "max_tokens": 50, **LEFT}))
    text = said(host)
    assert text.startswith("system\nBe brief.\nuser\nquestion 7")
    assert "question 6" not in text
    assert text.endswith("question 8 ".ljust(40, ".") + "\nassistant\n")
    assert found["dropped_messages"] == 14
    assert "dropped_tokens" not in found
    assert found["prompt_tokens"] == len(host.requests[-1].prompt) <= LIMIT - 50


def test_what_fits_is_left_as_it_is(client: httpx.Client, host: FakeHost) -> None:
    body = {"messages": [SYSTEM, *turns(2)], "max_tokens": 50}
    plain = usage(client.post(CHAT, json=body))
    assert usage(client.post(CHAT, json={**body, **LEFT})) == plain
    assert host.requests[0].prompt == host.requests[1].prompt


def test_an_answer_is_left_a_quarter_of_the_context_at_most(
    client: httpx.Client, host: FakeHost
) -> None:
    for more in ({}, {"max_tokens": 10_000}):
        assert usage(client.post(CHAT, json={"messages": turns(9), **LEFT, **more}))
        assert LIMIT * 3 // 4 - 180 < len(host.requests[-1].prompt) <= LIMIT * 3 // 4


def test_of_one_long_turn_the_oldest_calls_go_with_their_results(
    client: httpx.Client, host: FakeHost
) -> None:
    rounds: list[dict[str, Any]] = []
    for index in range(6):
        call = {"id": f"call{index:05}", "function": {"name": "look", "arguments": "{}"}}
        rounds.append({"role": "assistant", "content": f"look {index}", "tool_calls": [call]})
        seen = f"seen {index} ".ljust(40, ".")
        rounds.append({"role": "tool", "tool_call_id": f"call{index:05}", "content": seen})
    messages = [SYSTEM, *turns(2)[:2], {"role": "user", "content": "Look around."}, *rounds]
    found = usage(client.post(CHAT, json={"messages": messages, "max_tokens": 50, **LEFT}))
    text = said(host)
    assert text.startswith("system\nBe brief.\nuser\nLook around.\nassistant\nlook 5\n<tool_call>")
    assert found["dropped_messages"] == 2 + 10


def test_what_is_too_long_without_older_turns_is_refused(client: httpx.Client) -> None:
    last = {"role": "user", "content": "long " * 100}
    for messages in ([SYSTEM, *turns(3)[:-1], last], [last], [{**last, "content": "x" * 10_000}]):
        answer = client.post(CHAT, json={"messages": messages, **LEFT})
        assert refusal(answer) == (400, "messages", "context_length_exceeded")
        assert "the last turn alone" in answer.json()["error"]["message"]


def test_of_a_text_the_oldest_tokens_go(client: httpx.Client, host: FakeHost) -> None:
    text = "".join(f"{number:03} " for number in range(500))
    body = {"prompt": text, "max_tokens": 40, "n_keep": 9, **LEFT}
    found = usage(client.post(TEXT, json=body))
    assert host.requests[-1].prompt == (
        BOS,
        *text[:8].encode(),
        *text[-(LIMIT - 40 - 9) :].encode(),
    )
    assert found["dropped_tokens"] == 2001 - (LIMIT - 40)
    assert found["prompt_tokens"] == LIMIT - 40


def test_token_ids_are_cut_alike_and_prompts_each_for_itself(
    client: httpx.Client, host: FakeHost
) -> None:
    prompts = [[65] * 500, [66] * 30, [67] * 450]
    found = usage(client.post(TEXT, json={"prompt": prompts, "max_tokens": 100, **LEFT}))
    assert [len(each.prompt) for each in host.requests] == [300, 30, 300]
    assert found["dropped_tokens"] == 200 + 150


def test_streams_report_it_too(client: httpx.Client) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = client.post(CHAT, json={"messages": turns(9), **LEFT, **options})
    assert events(answer.text)[-2]["usage"]["dropped_messages"] == 14


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"overflow": "wrap"}, "overflow"),
        (CHAT, {"n_keep": 3}, "n_keep"),
        (CHAT, {"n_keep": 3, **LEFT}, "n_keep"),
        (CHAT, {"n_keep": -2, "overflow": "shift"}, "n_keep"),
        (TEXT, {"n_keep": 3}, "n_keep"),
        (TEXT, {"prompt": "x" * 900, "n_keep": -1, **LEFT}, "n_keep"),
        (TEXT, {"prompt": "x" * 900, "n_keep": 380, **LEFT}, "n_keep"),
        (TEXT, {"suffix": "end", **LEFT}, "overflow"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    own = {"messages": turns(1)} if path == CHAT else {"prompt": "Hello"}
    status, named, _ = refusal(client.post(path, json={**own, **body}))
    assert (status, named) == (400, param)


def test_a_shift_keeps_the_system_message(client: httpx.Client, host: FakeHost) -> None:
    ask = {"role": "user", "content": "Hello"}
    shift = {"overflow": "shift"}
    head = len("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    whole = len("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    given: list[tuple[Sequence[Any], dict[str, Any], int]] = [
        ([SYSTEM, ask], {}, 1 + head),  # with the token that every prompt begins with
        ([ask], {}, 1),
        ([SYSTEM, ask], {"n_keep": 7}, 7),
        ([ask], {"n_keep": -1}, 1 + whole),
    ]
    for messages, more, kept in given:
        assert usage(client.post(CHAT, json={"messages": messages, **shift, **more}))
        assert host.requests[-1].keep == kept
    assert usage(client.post(TEXT, json={"prompt": "Hello", **shift}))
    assert host.requests[-1].keep == 1
    assert usage(client.post(TEXT, json={"prompt": "Hello"}))
    assert host.requests[-1].keep is None


def test_the_setting_is_for_all_who_say_nothing(host: FakeHost) -> None:
    settings = replace(config(), model=ModelConfig(overflow="truncate_left"))
    with serving(host, settings) as client:
        assert usage(client.post(CHAT, json={"messages": turns(9)}))["dropped_messages"] == 14
        answer = client.post(CHAT, json={"messages": turns(9), "overflow": "error"})
        assert answer.status_code == 400
        counted = {"messages": turns(4), "model": "fake"}
        tokens = client.post("/v1/messages/count_tokens", json=counted).json()["input_tokens"]
        assert tokens > LIMIT * 3 // 4  # what is counted is all of it


def test_responses_call_it_truncation(client: httpx.Client, host: FakeHost) -> None:
    api = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0)
    items: Any = turns(9)
    found = api.responses.create(input=items, truncation="auto", instructions="Be brief.")
    assert found.truncation == "auto"
    assert found.usage is not None
    assert found.usage.to_dict()["dropped_messages"] == 14
    assert said(host).startswith("system\nBe brief.\nuser\nquestion 7")
    with pytest.raises(openai.BadRequestError, match="the prompt has 1219 tokens") as refused:
        api.responses.create(input=items, truncation="disabled")
    assert refused.value.param == "input"
    assert api.responses.create(input="Hello").truncation == "disabled"


def test_messages_have_it_as_an_extension(client: httpx.Client) -> None:
    api = anthropic.Anthropic(base_url=str(client.base_url), api_key="none", max_retries=0)
    messages: Any = turns(9)
    found = api.messages.create(model="fake", max_tokens=50, messages=messages, extra_body=LEFT)
    assert found.usage.to_dict()["dropped_messages"] == 14


@pytest.fixture(scope="module")
def model() -> Iterator[tuple[httpx.Client, Config]]:
    from llmengine.engine.engine import Engine

    settings = real.config(context_size=1024, max_sequence_length=256, threads=1, disk=False)
    with Engine(settings) as engine, serving(engine, settings) as client:
        yield client, settings


@pytest.mark.model
def test_a_conversation_never_ends(model: tuple[httpx.Client, Config]) -> None:
    client, _ = model
    messages: list[dict[str, str]] = [SYSTEM]
    dropped = 0
    for index in range(12):
        messages.append({"role": "user", "content": f"Tell me a story about the number {index}."})
        body = {"messages": messages, "max_tokens": 40, "temperature": 0, **LEFT}
        answer = client.post(CHAT, json=body)
        now = usage(answer).get("dropped_messages", 0)
        assert dropped <= now
        dropped = now
        content = answer.json()["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": content})
    assert dropped > 0


@pytest.mark.model
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_stream_goes_on_beyond_the_context_too(
    model: tuple[httpx.Client, Config], path: str
) -> None:
    """Equal text is not promised: what was guessed, or cached, rounds differently."""
    client, _ = model
    own: dict[str, Any] = {"messages": turns(1)} if path == CHAT else {"prompt": "One, two, "}
    body = {**own, "overflow": "shift", "max_tokens": 500, "ignore_eos": True, "temperature": 0}
    whole = usage(client.post(path, json=body))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last, done = events(client.post(path, json={**body, **options}).text)
    assert done == "[DONE]"
    for found in (whole, last["usage"]):
        assert found["completion_tokens"] == 500
        assert found["dropped_tokens"] > 250
