"""Tools and thinking over HTTP, on a fake host whose answers are scripted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from answers import GIVEN
from dialects import CALL, SECOND
from fakes import FakeHost
from serving import events, serving

HI = [{"role": "user", "content": "hi"}]
SHOWING = (
    "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}"
    "{% for m in messages %}[{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}]"
    "{% endfor %}{% if enable_thinking %}<think>{% endif %}"
)


@contextlib.contextmanager
def served(answer: str, **more: Any) -> Iterator[tuple[FakeHost, httpx.Client]]:
    with FakeHost(answer, **{"template": SHOWING, **more}) as host, serving(host) as client:
        yield host, client


def post(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"messages": HI, **body})


def answered(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = post(client, **body)
    assert response.status_code == 200, response.text
    return dict(response.json()["choices"][0])


def deltas(client: httpx.Client, **body: Any) -> tuple[list[dict[str, Any]], str]:
    """The deltas of a stream, and its finish reason."""
    *chunks, done = events(post(client, stream=True, **body).text)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    return [each["delta"] for each in choices], choices[-1]["finish_reason"]


def prompts(host: FakeHost) -> list[str]:
    return [bytes(each for each in r.prompt if each < 256).decode() for r in host.requests]


def test_a_call_is_an_answer_of_its_own() -> None:
    with served(f"{CALL}\n{SECOND}") as (_, client):
        found = answered(client, tools=GIVEN)
        first, second = found["message"].pop("tool_calls")
        assert found["message"] == {"role": "assistant", "content": None, "refusal": None}
        assert found["finish_reason"] == "tool_calls"
        assert first.pop("id").startswith("call_")
        assert first == {
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
        }
        assert second["function"] == {"name": "get_time", "arguments": '{"zone": "CET"}'}


def test_a_call_streams_as_openai_streams_it() -> None:
    with served(f"I look.\n{CALL}", step=16) as (_, client):
        found, reason = deltas(client, tools=GIVEN)
        assert reason == "tool_calls"
        assert found[0] == {"role": "assistant", "content": ""}
        assert [each["content"] for each in found[1:] if "content" in each] == ["I look."]
        called = [each["tool_calls"] for each in found if "tool_calls" in each]
        assert all(len(each) == 1 for each in called)
        begun = called[0][0]
        assert begun.pop("id").startswith("call_")
        assert begun == {
            "index": 0,
            "type": "function",
            "function": {"name": "get_weather", "arguments": ""},
        }
        fragments = [each[0] for each in called[1:]]
        assert len(fragments) > 1
        assert all(each.keys() == {"index", "function"} for each in fragments)
        text = "".join(each["function"]["arguments"] for each in fragments)
        assert text == '{"city": "Zürich"}'


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_streamed_and_whole_are_the_same(step: int) -> None:
    answer = f"<think>First,\nthen.</think>\n\nI look. {CALL}\n{SECOND}"
    with served(answer, step=step) as (_, client):
        message = answered(client, tools=GIVEN)["message"]
        found, reason = deltas(client, tools=GIVEN)
    assert reason == "tool_calls"
    for name in ("content", "reasoning_content"):
        assert "".join(each.get(name) or "" for each in found) == message[name]
    assert (message["content"], message["reasoning_content"]) == ("I look.", "First,\nthen.")
    joined: dict[int, list[str]] = {}
    for delta in found:
        for call in delta.get("tool_calls", []):
            parts = joined.setdefault(call["index"], ["", ""])
            parts[0] += call["function"].get("name", "")
            parts[1] += call["function"]["arguments"]
    functions = [each["function"] for each in message["tool_calls"]]
    assert list(joined.values()) == [[each["name"], each["arguments"]] for each in functions]


def test_what_is_no_call_is_content() -> None:
    broken = "<tool_call>\nnot JSON\n</tool_call>"
    with served(broken) as (_, client):
        found = answered(client, tools=GIVEN)
        assert (found["message"]["content"], found["finish_reason"]) == (broken, "stop")
    with served(CALL) as (host, client):
        for body in ({}, {"tools": GIVEN, "tool_choice": "none"}, {"tools": []}):
            found = answered(client, **body)
            assert (found["message"]["content"], found["finish_reason"]) == (CALL, "stop")
        assert prompts(host) == ["[user:hi]"] * 3


def test_a_call_that_is_cut_off_says_so() -> None:
    with served(CALL) as (_, client):
        found = answered(client, tools=GIVEN, max_tokens=60)
        assert found["finish_reason"] == "length"
        assert found["message"]["tool_calls"][0]["function"]["arguments"].startswith('{"ci')


def test_parallel_calls_can_be_turned_off() -> None:
    with served(f"{CALL}\n{SECOND}") as (_, client):
        found = answered(client, tools=GIVEN, parallel_tool_calls=False)
        assert [each["function"]["name"] for each in found["message"]["tool_calls"]] == [
            "get_weather"
        ]
        assert (
            len(answered(client, tools=GIVEN, parallel_tool_calls=True)["message"]["tool_calls"])
            == 2
        )


def test_a_conversation_with_calls_reaches_the_template() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
    }
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "wet"}]},
    ]
    with served("It rains.") as (host, client):
        assert answered(client, messages=messages, tools=GIVEN)["finish_reason"] == "stop"
        assert prompts(host) == [
            "get_weather get_time [user:hi][assistant:<tool_call>"
            '{"name": "get_weather", "arguments": {"city": "Zürich"}}</tool_call>][tool:wet]'
        ]


def test_a_template_without_tools_gets_them_in_words() -> None:
    with served(CALL, template=None) as (host, client):
        found = answered(client, tools=GIVEN)
        assert found["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
        (prompt,) = prompts(host)
        assert prompt.startswith("<|im_start|>system\n# Tools\n")
        assert '{"name": "get_time", "parameters": {"type": "object"' in prompt
        assert '<tool_call>\n{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}\n' in prompt


NAMED = {"type": "function", "function": {"name": "get_time"}}


def test_only_allowed_tools_are_told_of() -> None:
    allowed = {"mode": "auto", "tools": [NAMED]}
    with served("Hello") as (host, client):
        choice = {"type": "allowed_tools", "allowed_tools": allowed}
        assert answered(client, tools=GIVEN, tool_choice=choice)["finish_reason"] == "stop"
        assert prompts(host) == ["get_time [user:hi]"]


@pytest.mark.parametrize(
    ("choice", "names", "several"),
    [
        ("required", ["get_weather", "get_time"], True),
        (NAMED, ["get_time"], False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
         ["get_time"], True),
    ],
)  # fmt: skip
def test_a_forced_call_is_a_constraint(choice: Any, names: list[str], several: bool) -> None:
    with served(SECOND) as (host, client):
        found = answered(client, tools=GIVEN, tool_choice=choice)
        assert found["message"]["tool_calls"][0]["function"]["name"] == "get_time"
        (request,) = host.requests
        constraint = request.params.constraint
        assert constraint is not None
        assert (constraint.kind, constraint.thinking) == ("lark", None)
        assert [each for each in ("get_weather", "get_time") if each in constraint.source] == names
        assert (")*" in constraint.source) == several


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    function = {"name": "get_place", "strict": True, "parameters": schema}
    return {"type": "function", "function": function}


def test_calls_of_a_strict_function_are_held_to_its_schema() -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string"}}}
    with served(SECOND) as (host, client):
        found = answered(client, tools=[*GIVEN, strict(schema)])
        assert found["message"]["tool_calls"][0]["function"]["name"] == "get_time"
        (request,) = host.requests
        constraint = request.params.constraint
        assert constraint is not None
        assert (constraint.kind, constraint.param) == ("lark", "tools")
        assert "place" in constraint.source
        assert "zone" not in constraint.source  # get_time is not strict: any JSON will do


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_a_strict_function_or_a_call_nothing_is_held(choice: str | None) -> None:
    tools = [*GIVEN, strict({"type": "object"})] if choice == "none" else GIVEN
    with served("Hello") as (host, client):
        answered(client, tools=tools, tool_choice=choice)
        assert [each.params.constraint for each in host.requests] == [None]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [strict({"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}})]},
         "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"tool_choice": "sometimes", "tools": GIVEN}, "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": GIVEN}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}, "tools": GIVEN},
         "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": []}},
          "tools": GIVEN}, "tool_choice"),
        ({"tools": [*GIVEN, GIVEN[0]]}, "tools[2].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]},
         "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters":
                                                      {"type": "string"}}}]},
         "tools[0].function.parameters"),
        ({"tools": GIVEN * 200}, "tools"),
        ({"tools": GIVEN, "tool_choice": "required", "response_format": {"type": "json_object"}},
         "response_format"),
        ({"tools": GIVEN, "tool_choice": "required", "grammar": 'root ::= "x"'}, "grammar"),
        ({"tools": GIVEN, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with served("Hello") as (host, client):
        response = post(client, **body)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param
        assert host.requests == []


def test_thinking_is_counted() -> None:
    thought = "<think>First this.</think>"
    with served(f"{thought}Answer", step=1) as (_, client):
        response = post(client).json()
        assert response["choices"][0]["message"]["reasoning_content"] == "First this."
        details = response["usage"]["completion_tokens_details"]
        # The tags are part of it, as far as their last byte leads into the thinking or out of it.
        assert details == {"reasoning_tokens": len(">First this.</think>")}
        *_, usage, _ = events(
            post(client, stream=True, stream_options={"include_usage": True}).text
        )
        assert usage["usage"]["completion_tokens_details"] == details


@pytest.mark.parametrize(
    ("body", "opened"),
    [
        ({}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_effort_turns_thinking_on_and_off(body: dict[str, Any], opened: bool) -> None:
    with served("hm</think>yes") as (host, client):
        message = answered(client, **body)["message"]
        assert prompts(host)[0].endswith("<think>") == opened
        assert message["content"] == ("yes" if opened else "hm</think>yes")
