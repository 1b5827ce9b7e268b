"""What OpenAI's API calls deprecated: functions, in the shape of old."""

from __future__ import annotations

from typing import Any

import pytest
from answers import GIVEN
from test_server_tools import CALL, SECOND, answered, deltas, post, prompts, served

FUNCTIONS = [each["function"] for each in GIVEN]
ARGUMENTS = '{"city": "Zürich"}'


def test_a_function_is_called_as_of_old() -> None:
    with served(f"I look.\n{CALL}\n{SECOND}") as (host, client):
        found = answered(client, functions=FUNCTIONS)
        assert found["finish_reason"] == "function_call"
        assert found["message"] == {
            "role": "assistant",
            "content": "I look.",
            "function_call": {"name": "get_weather", "arguments": ARGUMENTS},
            "refusal": None,
        }
        answered(client, tools=GIVEN)
        with_functions, with_tools = prompts(host)
        assert with_functions == with_tools


def test_it_streams_as_of_old() -> None:
    with served(CALL, step=7) as (_, client):
        found, reason = deltas(client, functions=FUNCTIONS)
        assert reason == "function_call"
        called = [each["function_call"] for each in found if "function_call" in each]
        assert called[0] == {"name": "get_weather", "arguments": ""}
        assert "".join(each["arguments"] for each in called) == ARGUMENTS
        assert not any("name" in each for each in called[1:])


def test_none_means_none_and_a_name_forces() -> None:
    with served(CALL) as (host, client):
        found = answered(client, functions=FUNCTIONS, function_call="none")
        assert (found["message"]["content"], found["finish_reason"]) == (CALL, "stop")
        named = answered(client, functions=FUNCTIONS, function_call={"name": "get_weather"})
        assert named["finish_reason"] == "function_call"
        assert [each.params.constraint is None for each in host.requests] == [True, False]


def test_the_past_is_told_in_the_words_of_tools() -> None:
    past = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None,
         "function_call": {"name": "get_weather", "arguments": ARGUMENTS}},
        {"role": "function", "name": "get_weather", "content": "sunny"},
    ]  # fmt: skip
    call = {"id": "call00001", "type": "function", "function": past[1]["function_call"]}
    modern = [
        past[0],
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "content": "sunny"},
    ]
    with served("Good.") as (host, client):
        answered(client, messages=past)
        answered(client, messages=modern)
        asked, same = prompts(host)
        assert asked == same
        assert "get_weather" in asked
        applied = client.post("/apply-template", json={"messages": past}).json()["prompt"]
        assert applied == asked.removeprefix("<s>")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"functions": FUNCTIONS, "tools": GIVEN}, "functions"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"functions": FUNCTIONS, "function_call": {"name": "no"}}, "function_call"),
        ({"functions": [{"name": "a b"}]}, "functions[0].name"),
        (
            {"functions": [{"name": "a", "parameters": {"type": "array"}}]},
            "functions[0].parameters",
        ),
    ],
)
def test_refusals_use_the_names_of_old(body: dict[str, Any], param: str) -> None:
    with served("") as (_, client):
        response = post(client, **body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
