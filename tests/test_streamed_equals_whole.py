"""A streamed answer is the whole one in parts: the same text for the same seed, in every mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import real
from fakes import FakeHost
from serving import config, events, serving

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
ASK = [{"role": "user", "content": "What is the weather in Paris? Say it in 20 words. 🙂"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS}}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hot": {"temperature": 1.5, "seed": 2**40},
    "greedy": {"temperature": 0},
    "tools": {"tools": TOOLS},
    "forced": {"tools": TOOLS, "tool_choice": "required"},
    "schema": {"response_format": SCHEMA},
    "object": {"response_format": {"type": "json_object"}},
    "regex": {"guided_regex": "(🙂|é|日本){2,9}"},
    "choice": {"guided_choice": ["👩‍👩‍👧", "👩‍👩‍👦", "e\u0301\u0302", "🇫🇷"]},
    "thinking": {"reasoning_effort": "high"},
    "no thinking": {"reasoning_effort": "none"},
    "choices": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stops": {"stop": ["e", " th", "."]},
    "penalties": {"repeat_penalty": 1.3, "frequency_penalty": 0.5, "temperature": 1},
    "mirostat": {"mirostat": 2},
    "all": {"n": 2, "logprobs": True, "stop": "}", "response_format": SCHEMA},
}
TEXTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "echo": {"echo": True},
    "prompts": {"prompt": ["one 🙂", "two é"], "echo": True, "n": 2},
    "logprobs": {"logprobs": 2},
    "stops": {"stop": ["a", "🙂"]},
    "grammar": {"grammar": 'root ::= ("ab" | "🙂" | "é")+'},
}


def added(target: dict[str, Any], delta: dict[str, Any]) -> None:
    """What a chunk brings, put behind what was there: strings and lists grow."""
    for name, value in delta.items():
        if name == "tool_calls":
            calls = target.setdefault(name, [])
            for call in value:
                if call["index"] == len(calls):
                    calls.append({})
                added(calls[call["index"]], {k: v for k, v in call.items() if k != "index"})
        elif isinstance(value, dict):
            added(target.setdefault(name, {}), value)
        elif isinstance(value, (str, list)) and name not in ("role", "type", "id", "name"):
            target[name] = (target.get(name) or type(value)()) + value
        elif value is not None:
            target[name] = value


def choices(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for, free of what differs between two requests."""
    found = [{**each.pop("message", {}), **each} for each in answer["choices"]]
    for choice in found:
        (choice.get("logprobs") or {}).pop("refusal", None)
        for call in choice.get("tool_calls") or ():
            call.pop("id")
    return [{k: v for k, v in each.items() if v not in (None, "", {})} for each in found]


def joined(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices of a stream, in the shape of a whole answer."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            target = found.setdefault(choice["index"], {})
            added(target, choice.pop("delta", {}))
            added(target, choice)
    return choices({"choices": [found[index] for index in sorted(found)]})


def both(client: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a whole answer, after the streamed one was found to be equal."""
    whole = client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = events(client.post(path, json={**body, **options}).text)
    assert done == "[DONE]"
    found = choices(whole.json())
    assert joined(chunks) == found
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole.json()["usage"][name]
    return found


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    from llmengine.engine.engine import Engine

    settings = real.config(context_size=4096, threads=1, disk=False, deterministic=True)
    with Engine(settings) as engine, serving(engine, settings) as client:
        yield client


@pytest.mark.model
@pytest.mark.parametrize("mode", CHATS)
def test_chats(client: httpx.Client, mode: str) -> None:
    body = {"messages": ASK, "max_tokens": 40, "seed": 7, **CHATS[mode]}
    found = both(client, CHAT, body)
    assert len(found) == body.get("n", 1)
    assert both(client, CHAT, body) == found


@pytest.mark.model
@pytest.mark.parametrize("mode", TEXTS)
def test_texts(client: httpx.Client, mode: str) -> None:
    body = {"prompt": "Once 🙂 upon", "max_tokens": 24, "seed": 7, "temperature": 1}
    assert both(client, TEXT, {**body, **TEXTS[mode]})


# Flags, families, combining marks, and characters of one to four bytes.
WRITTEN = "añ😀z 👩‍👩‍👧‍👦 e\u0301\u0302 🇫🇷 日本語 \U0010fffd \u202eab\u202c ﷽ नमस्ते\n" * 3


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "before_after", [("", ""), ("<think>", "</think>answer"), ("", "<tool_call>")], ids=str
)
def test_no_character_is_cut_or_lost(step: int, before_after: tuple[str, str]) -> None:
    before, after = before_after
    call = json.dumps({"name": "weather", "arguments": {"city": WRITTEN}}, ensure_ascii=False)
    text = f"{before}{WRITTEN}{after}"
    if after == "<tool_call>":
        text = f"{WRITTEN}<tool_call>\n{call}\n</tool_call>"
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<tool_call><think></think>"
    with FakeHost(text, step=step, template=template) as host, serving(host, config()) as client:
        body = {"messages": ASK, "tools": TOOLS, "n": 2}
        for found in both(client, CHAT, body):
            if after == "<tool_call>":
                (made,) = found["tool_calls"]
                assert json.loads(made["function"]["arguments"]) == {"city": WRITTEN}
                assert found["content"].strip() == WRITTEN.strip()
            elif before:
                assert found["reasoning_content"].strip() == WRITTEN.strip()
                assert found["content"] == "answer"
            else:
                assert found["content"] == WRITTEN
        for found in both(client, TEXT, {"prompt": WRITTEN, "echo": True, "n": 2}):
            assert found["text"] == WRITTEN + text
        for found in both(client, TEXT, {"prompt": "x", "logprobs": 1, "stop": "日"}):
            assert found["text"] == text[: text.index("日")]
            assert "".join(found["logprobs"]["tokens"]).startswith("a" if not before else "<")
