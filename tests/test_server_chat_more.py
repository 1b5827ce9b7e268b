"""More of a chat: answers that end at a call, go on with a message, or have a form beside tools."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from answers import GIVEN
from fakes import FakeHost
from grammars import accepts, begins
from serving import events, serving
from test_server_tools import CALL, HI, SECOND, answered, deltas, post, prompts, served

from llmengine.chat.calls.style import Call
from llmengine.chat.formats import FORMATS, Format
from llmengine.chat.lark import Lark
from llmengine.sampling import Constraint
from llmengine.server.tools import ToolPlan

FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {
    "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
    "additionalProperties": False}}}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_at_the_one_call_it_may_have(stream: bool) -> None:
    text = f"I look.\n{CALL}\n{SECOND}" + " and more" * 200
    with served(text, step=5, delay=0.002) as (host, client):
        body = {"tools": GIVEN, "parallel_tool_calls": False, "n": 2}
        body |= {"stream": stream, "stream_options": {"include_usage": True} if stream else None}
        response = post(client, **body)
        if stream:
            *chunks, _ = events(response.text)
            usage = chunks[-1]["usage"]
            ends = [each["choices"][0] for each in chunks[:-1]]
            reasons = [each["finish_reason"] for each in ends if each["finish_reason"]]
            assert "more" not in response.text
        else:
            usage = response.json()["usage"]
            choices = response.json()["choices"]
            reasons = [each["finish_reason"] for each in choices]
            for each in choices:
                assert each["message"]["content"] == "I look."
                (call,) = each["message"]["tool_calls"]
                assert call["function"]["name"] == "get_weather"
        assert reasons == ["tool_calls", "tool_calls"]
        assert sorted(host.cancelled) == sorted(each.id for each in host.requests)
        least = len(f"I look.\n{CALL}".encode())
        assert 2 * least <= usage["completion_tokens"] < 2 * len(text)


@pytest.mark.parametrize(
    ("stop", "arguments", "reason"),
    [
        ("rich", '{"city": "Zü', "stop"),
        ("}", '{"city": "Zürich"', "stop"),
        ("</tool_call>", '{"city": "Zürich"}', "tool_calls"),
        ("Done", '{"city": "Zürich"}', "tool_calls"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_call_that_a_stop_string_cuts_off_is_not_to_be_run(
    stop: str, arguments: str, reason: str, step: int
) -> None:
    with served(f"{CALL}\nDone.", step=step) as (_, client):
        found = answered(client, tools=GIVEN, stop=stop)
        assert found["message"]["tool_calls"][0]["function"]["arguments"] == arguments
        assert found["finish_reason"] == reason
        assert deltas(client, tools=GIVEN, stop=stop)[1] == reason


def test_without_the_limit_all_is_told() -> None:
    with served(f"{CALL}\n{SECOND}\nDone.", step=5) as (host, client):
        assert len(answered(client, tools=GIVEN)["message"]["tool_calls"]) == 2
        assert host.cancelled == []


def test_a_form_leaves_calls_possible() -> None:
    with served('{"n": 1}') as (host, client):
        found = answered(client, tools=GIVEN, response_format=FORM)
        assert found["message"]["content"] == '{"n": 1}'
        constraint = host.requests[0].params.constraint
        assert constraint is not None
        assert constraint.thinking is None
        assert accepts(constraint, '{"n": 1}')
        assert accepts(constraint, CALL)
        assert not accepts(constraint, '{"n": "x"}')
        assert not accepts(constraint, CALL.replace("city", "town").replace('"Zürich"', "1"))
        assert not accepts(constraint, "I look.")
        answered(client, tools=GIVEN, response_format={"type": "json_object"})
        assert accepts(host.requests[1].params.constraint, '{"m": 2}')
        answered(client, tools=GIVEN, response_format=FORM, tool_choice="none")
        assert host.requests[2].params.constraint.kind == "json_schema"


def test_other_forms_beside_tools_are_refused() -> None:
    with served("") as (_, client):
        error = post(client, tools=GIVEN, guided_regex="a+").json()["error"]
        assert (error["param"], error["type"]) == ("guided_regex", "invalid_request_error")
        assert "tool_choice" in error["message"]
        bad = replace_schema({"type": "string", "not": {}})
        error = post(client, tools=GIVEN, response_format=bad).json()["error"]
        assert error["param"] == "response_format.json_schema.schema"


def test_json_is_no_form_beside_calls_that_are_json() -> None:
    with served("", template="<|python_tag|>{{ messages[0].content }}") as (_, client):
        error = post(client, tools=GIVEN, response_format=FORM).json()["error"]
        assert error["param"] == "response_format.json_schema.schema"
        assert "tool_choice" in error["message"]
        body = {"response_format": FORM, "tool_choice": "none"}
        assert post(client, tools=GIVEN, **body).status_code == 200


@pytest.mark.parametrize(
    "format",
    [each for each in FORMATS if not (each.calls and each.calls.bare)],
    ids=lambda each: each.name,
)
def test_answer_and_call_are_both_possible_in_each_format(format: Format) -> None:
    state: Any = SimpleNamespace(
        template=SimpleNamespace(format=format), marks=SimpleNamespace(controls=lambda text: ())
    )
    plan = ToolPlan(GIVEN)
    form = Constraint("json_object", param="response_format")
    either = plan.or_answer(state, form)
    lark = Lark(lambda text: ())
    calls = Constraint("lark", lark.source(format.style.grammar(lark, plan.tools, several=True)))
    for answer in ('{"n": 1}', '{"name": "get_weather", "n": 1}'):
        assert accepts(either, answer)
    call = format.style.write([Call("get_weather", {"city": "Oslo"}, "call00001")])
    call = call.removeprefix(">>>")  # which the prompt ends with where it begins a call
    assert begins(either, call[:3])
    for size in (12, len(call)):
        assert begins(either, call[:size]) == begins(calls, call[:size])
    assert accepts(either, call) == accepts(calls, call)


def replace_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {**FORM, "json_schema": {"name": "n", "schema": schema}}


def prompt_of(**body: Any) -> str:
    with FakeHost() as host, serving(host) as client:
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        return host.detokenize(host.requests[0].prompt)


def test_an_answer_may_go_on_with_the_last_message() -> None:
    said = {"role": "assistant", "content": " The sum of</think> 1 and "}
    found = prompt_of(messages=[*HI, said], continue_final_message=True)
    user = "<|im_start|>user\nhi<|im_end|>\n"
    assert found == f"{user}<|im_start|>assistant\n The sum of</think> 1 and "
    parts = {"role": "assistant", "content": [{"type": "text", "text": "One"}]}
    body = {"continue_final_message": True, "add_generation_prompt": False}
    assert prompt_of(messages=[*HI, parts], **body) == f"{user}<|im_start|>assistant\nOne"
    assert prompt_of(messages=HI, add_generation_prompt=False) == user
    assert prompt_of(messages=HI, add_generation_prompt=True) == f"{user}<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": HI},
        {"messages": [*HI, {"role": "assistant", "content": ""}]},
        {"messages": [*HI, {"role": "assistant", "content": "a"}], "add_generation_prompt": True},
    ],
)
def test_what_cannot_go_on_is_refused(body: dict[str, Any]) -> None:
    with served("") as (_, client):
        response = post(client, **body, continue_final_message=True)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "continue_final_message"


def test_a_template_that_drops_the_last_message_cannot_go_on() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    with served("", template=template) as (_, client):
        messages = [*HI, {"role": "assistant", "content": "a"}]
        response = post(client, messages=messages, continue_final_message=True)
        assert response.json()["error"]["param"] == "continue_final_message"


def test_a_prediction_and_a_tier_are_taken() -> None:
    prediction = {"type": "content", "content": "Hello, you!"}
    with FakeHost() as host, serving(host) as client:
        body: dict[str, Any] = {"prediction": prediction, "service_tier": "auto"}
        found = post(client, **body).json()
        assert found["choices"][0]["message"]["content"] == "Hello, world!"
        assert found["service_tier"] == "default"
        assert found["usage"]["completion_tokens_details"] == {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 7,
            "rejected_prediction_tokens": 4,
        }
        assert bytes(host.requests[0].prediction) == b"Hello, you!"
        usage = {"stream_options": {"include_usage": True}}
        *chunks, _ = events(post(client, **body, **usage, n=2, stream=True).text)
        counted = chunks[-1]["usage"]["completion_tokens_details"]
        assert counted["accepted_prediction_tokens"] == 14
        assert {each["service_tier"] for each in chunks} == {"default"}
        parts = {"type": "content", "content": [{"type": "text", "text": "a"}]}
        assert post(client, prediction=parts).status_code == 200
        assert bytes(host.requests[-1].prediction) == b"a"
        image = {"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}
        refused = post(client, prediction=image).json()["error"]
        assert refused["param"] == "prediction.content[1]"
        plain = post(client).json()
        assert "service_tier" not in plain
        assert plain["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
        wrong = post(client, prediction={"type": "other", "content": ""})
        assert wrong.json()["error"]["param"] == "prediction.type"


@pytest.mark.parametrize(
    "refused",
    [
        {"content": None, "refusal": "I cannot."},
        {"refusal": "I cannot."},
        {"content": [{"type": "refusal", "refusal": "I cannot."}]},
        {"content": [{"type": "text", "text": "I "}, {"type": "refusal", "refusal": "cannot."}]},
        {"content": "I cannot.", "refusal": None},
    ],
)
def test_what_was_refused_is_a_turn_of_the_conversation(refused: dict[str, Any]) -> None:
    messages = [*HI, {"role": "assistant", **refused}, *HI]
    with served("So be it.") as (host, client):
        answered(client, messages=messages)
        assert prompts(host) == ["[user:hi][assistant:I cannot.][user:hi]"]
