"""How requests ask for a form of the answer, and what the engine is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from serving import serving

from llmengine.chat.template import ChatTemplate
from llmengine.sampling import Constraint

USER = {"messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"é": {"type": "integer"}}}
TEXT = '{"type":"object","properties":{"é":{"type":"integer"}}}'


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost("{}") as found:
        yield found


def asked(client: httpx.Client, host: FakeHost, body: dict[str, Any]) -> list[Constraint | None]:
    """What both endpoints make of it, without the thinking of a chat."""
    chat = client.post("/v1/chat/completions", json=USER | body)
    text = client.post("/v1/completions", json={"prompt": "hi"} | body)
    assert (chat.status_code, text.status_code) == (200, 200), chat.text + text.text
    return [request.params.constraint for request in host.requests[-2:]]


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": None, "guided_json": None, "structured_outputs": None}, None),
        ({"response_format": {"type": "json_object"}},
         Constraint("json_object", param="response_format")),
        ({"response_format": format_of(SCHEMA)},
         Constraint("json_schema", TEXT, param="response_format.json_schema.schema")),
        ({"grammar": "root ::= [a]"}, Constraint("gbnf", "root ::= [a]", param="grammar")),
        ({"guided_json": SCHEMA}, Constraint("json_schema", TEXT, param="guided_json")),
        ({"guided_json": TEXT}, Constraint("json_schema", TEXT, param="guided_json")),
        ({"guided_regex": "a+"}, Constraint("regex", "a+", param="guided_regex")),
        ({"guided_choice": ["a", "b"]}, Constraint("choice", '["a","b"]', param="guided_choice")),
        ({"guided_grammar": "root ::= [a]"},
         Constraint("gbnf", "root ::= [a]", param="guided_grammar")),
        ({"guided_grammar": 'start: "a"'},
         Constraint("lark", 'start: "a"', param="guided_grammar")),
        ({"structured_outputs": {"json": SCHEMA}},
         Constraint("json_schema", TEXT, param="structured_outputs.json")),
        ({"structured_outputs": {"json_object": True}},
         Constraint("json_object", param="structured_outputs.json_object")),
        ({"structured_outputs": {"choice": ["a"]}},
         Constraint("choice", '["a"]', param="structured_outputs.choice")),
        ({"structured_outputs": {"regex": "x"}},
         Constraint("regex", "x", param="structured_outputs.regex")),
    ],
)  # fmt: skip
def test_every_way_becomes_one_constraint(
    client: httpx.Client, host: FakeHost, body: dict[str, Any], expected: Constraint | None
) -> None:
    chat, text = asked(client, host, body)
    assert text == expected
    assert (chat and Constraint(chat.kind, chat.source, param=chat.param)) == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
         "response_format.json_schema.name"),
        ({"response_format": {"type": "json_object"}, "grammar": "x"}, "grammar"),
        ({"guided_json": {}, "guided_regex": "x"}, "guided_regex"),
        ({"guided_regex": "x", "structured_outputs": {"regex": "x"}}, "structured_outputs.regex"),
        ({"guided_choice": "a"}, "guided_choice"),
        ({"structured_outputs": {"xml": 1}}, "structured_outputs"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused(
    client: httpx.Client, host: FakeHost, body: dict[str, Any], param: str
) -> None:
    for path, rest in (("chat/completions", USER), ("completions", {"prompt": "hi"})):
        response = client.post(f"/v1/{path}", json=rest | body)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param
    assert host.requests == []


def test_the_thinking_comes_before() -> None:
    knows, plain = (ChatTemplate(each, "", "") for each in ("{# <think></think> #}", ""))
    assert plain.tags_before("user\nhi\nassistant\n<think>\n") == ("", "</think>")
    assert knows.tags_before("assistant\n") == ("<think>", "</think>")
    assert knows.tags_before("assistant\n<think>\n\n</think>\n\n") is None
    assert plain.tags_before("assistant\n") is None


def test_a_chat_that_thinks_is_held_after_it(client: httpx.Client, host: FakeHost) -> None:
    body = USER | {"response_format": {"type": "json_object"}}
    client.post(
        "/v1/chat/completions", json=body | {"chat_template_kwargs": {"enable_thinking": True}}
    )
    (request,) = host.requests
    assert request.params.constraint == Constraint(
        "json_object", thinking=("", "</think>"), param="response_format"
    )


THINKS_BY_ITSELF = (
    "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %}"
    "/no_think{% endif %}{# <think></think> #}"
)
THINKS_IF_ASKED = (
    "{{ messages[-1].content }}{% if enable_thinking %}<think>{% endif %}{# </think> #}"
)


@pytest.mark.parametrize(
    ("template", "switch", "thinking"),
    [
        (THINKS_BY_ITSELF, {}, ("<think>", "</think>")),
        (THINKS_BY_ITSELF, {"reasoning_effort": "none"}, None),
        (THINKS_BY_ITSELF, {"reasoning": {"enabled": False}}, None),
        (THINKS_BY_ITSELF, {"chat_template_kwargs": {"enable_thinking": False}}, None),
        (THINKS_IF_ASKED, {}, None),
        (THINKS_IF_ASKED, {"reasoning_effort": "low"}, ("", "</think>")),
        (THINKS_IF_ASKED, {"chat_template_kwargs": {"enable_thinking": True}}, ("", "</think>")),
    ],
)
def test_a_chat_that_is_not_to_think_is_held_from_the_beginning(
    template: str, switch: dict[str, Any], thinking: tuple[str, str] | None
) -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    json_object = {"response_format": {"type": "json_object"}}
    with FakeHost("{}", template=template) as host, serving(host) as client:
        for form in (json_object, {"tools": [tool], "tool_choice": "required"}):
            answer = client.post("/v1/chat/completions", json=USER | form | switch)
            assert answer.status_code == 200, answer.text
            constraint = host.requests[-1].params.constraint
            assert constraint is not None
            assert constraint.thinking == thinking
