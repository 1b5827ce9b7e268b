"""/v1/responses and /v1/messages on the embedded model, by the official clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import jsonschema
import openai
import pytest
from answers import GIVEN
from real import config
from serving import serving

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Zürich", "Bern"]}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {**GIVEN[0]["function"], "parameters": SCHEMA}
CONTEXT = 512  # tokens
LONG = "Count. " * 120
ASKED = "What is the weather in Bern? 🌦"

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    from llmengine.engine.engine import Engine

    settings = config(max_concurrent_requests=4, max_sequence_length=CONTEXT)
    with Engine(settings) as engine, serving(engine, settings) as client:
        yield str(client.base_url)


@pytest.fixture
def responses(served: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served}/v1", api_key="k", max_retries=0, timeout=60) as client:
        yield client.responses


@pytest.fixture
def messages(served: str) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=served, api_key="k", max_retries=0, timeout=60) as client:
        yield client.messages


def test_responses_call_a_tool_and_go_on(responses: Any) -> None:
    tool = {"type": "function", **WEATHER, "strict": True}
    asks: dict[str, Any] = {"model": "tiny-chat", "tools": [tool], "temperature": 1}
    first = responses.create(input=ASKED, tool_choice="required", **asks, extra_body={"seed": 3})
    (call,) = first.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    jsonschema.validate(json.loads(call.arguments), SCHEMA)
    with responses.stream(
        input=ASKED, tool_choice="required", **asks, extra_body={"seed": 3}
    ) as stream:
        assert stream.get_final_response().output[0].arguments == call.arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = responses.create(
        input=[result],
        previous_response_id=first.id,
        max_output_tokens=24,
        **asks,
    )
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.output_tokens <= 24
    given = list(responses.input_items.list(second.id, order="asc"))
    assert [each.type for each in given] == ["message", "function_call", "function_call_output"]
    assert given[0].content[0].text == ASKED


def test_responses_keep_to_a_schema_and_reuse_the_conversation(responses: Any) -> None:
    format = {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}
    asks: dict[str, Any] = {
        "model": "tiny-chat", "input": ASKED, "text": {"format": format},
        "extra_body": {"seed": 5}, "include": ["message.output_text.logprobs"],
    }  # fmt: skip
    whole = responses.create(**asks)
    jsonschema.validate(json.loads(whole.output_text), SCHEMA)
    with responses.stream(**asks) as stream:
        streamed = stream.get_final_response()
    assert streamed.output_text == whole.output_text
    tokens = "".join(each.token for each in whole.output[-1].content[0].logprobs)
    assert tokens.startswith(whole.output_text)
    later = responses.create(
        model="tiny-chat", input="Thanks.", previous_response_id=whole.id, max_output_tokens=1
    )
    assert later.usage.input_tokens_details.cached_tokens > 0


def test_messages_call_a_tool_and_go_on(messages: Any) -> None:
    tool = {"name": "get_weather", "description": "Forecast", "input_schema": SCHEMA}
    said: list[Any] = [{"role": "user", "content": ASKED}]
    asks: dict[str, Any] = {
        "model": "tiny-chat", "max_tokens": 200, "tools": [tool],
        "extra_body": {"seed": 3, "temperature": 1},
    }  # fmt: skip
    forced = {"type": "tool", "name": "get_weather"}
    first = messages.create(messages=said, tool_choice=forced, **asks)
    (call,) = first.content
    assert (call.type, call.name, first.stop_reason) == ("tool_use", "get_weather", "tool_use")
    jsonschema.validate(call.input, SCHEMA)
    with messages.stream(messages=said, tool_choice=forced, **asks) as stream:
        assert stream.get_final_message().content[0].input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    said += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    counted = messages.count_tokens(model="tiny-chat", messages=said, tools=[tool])
    second = messages.create(messages=said, **{**asks, "max_tokens": 8})
    usage = second.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens
    assert usage.output_tokens <= 8


def test_an_answer_may_fill_the_context(messages: Any) -> None:
    """A prompt that leaves a few tokens; `max_tokens` above the context is no error."""
    asks: dict[str, Any] = {"model": "tiny-chat", "messages": [{"role": "user", "content": LONG}]}
    room = CONTEXT - messages.count_tokens(**asks).input_tokens
    found = messages.create(max_tokens=100_000, **asks, extra_body={"ignore_eos": True})
    assert found.stop_reason == "model_context_window_exceeded"
    assert found.usage.output_tokens == room
