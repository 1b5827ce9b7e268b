"""Tools with the official client on the embedded model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import jsonschema
import openai
import pytest
from real import MODEL
from serving import serving

from llmengine.config import Config, ModelConfig

pytestmark = pytest.mark.model

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "seats": {"type": "integer", "minimum": 1, "maximum": 9},
                "day": {"enum": ["monday", "friday"]},
            },
            "required": ["seats", "day"],
            "additionalProperties": False,
        },
    },
}
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    from llmengine.engine.engine import Engine

    settings = Config(model=ModelConfig(model_path=str(MODEL), name="tiny-chat"))
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(settings))
        http = stack.enter_context(serving(engine, settings))
        yield stack.enter_context(
            openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="k", max_retries=0)
        )


def test_a_tool_is_called_and_its_result_answered(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model="tiny-chat", messages=ASK, tools=[WEATHER], temperature=0, max_tokens=100
    ).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.content is None
    (call,) = asked.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny"}'}
    messages = [*ASK, asked.message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(
        model="tiny-chat", messages=messages, tools=[WEATHER], temperature=0, max_tokens=100
    ).choices[0]
    assert answer.finish_reason == "stop"
    assert "sunny" in answer.message.content


def test_a_streamed_call_is_the_same(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny-chat", messages=ASK, tools=[WEATHER], temperature=0, max_tokens=100
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    (call,) = final.message.tool_calls
    assert call.id.startswith("call_")
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "book"}}])
def test_a_forced_call_fits_its_schema_however_wild(client: openai.OpenAI, choice: object) -> None:
    schemas = {each["function"]["name"]: each["function"]["parameters"] for each in (WEATHER, BOOK)}
    complete = 0
    for seed in range(4):
        found = client.chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": "Hello!"}],
            tools=[WEATHER, BOOK],
            tool_choice=choice,
            parallel_tool_calls=False,
            temperature=1.5,
            seed=seed,
            max_tokens=600,
        ).choices[0]
        if found.finish_reason == "length":
            continue
        (call,) = found.message.tool_calls
        assert choice == "required" or call.function.name == "book"
        jsonschema.validate(json.loads(call.function.arguments), schemas[call.function.name])
        complete += 1
    assert complete >= 2


def test_a_strict_function_has_its_schema_kept_where_the_model_is_free(
    client: openai.OpenAI,
) -> None:
    function = WEATHER["function"]
    schema = {**function["parameters"], "properties": {"city": {"enum": ["London", "Rome"]}}}
    found = {}
    for strict in (True, False):
        given = {**function, "strict": strict, "parameters": schema}
        answer = client.chat.completions.create(
            model="tiny-chat",
            messages=ASK,
            tools=[{"type": "function", "function": given}],
            temperature=0,
            max_tokens=100,
        ).choices[0]
        (call,) = answer.message.tool_calls
        found[strict] = json.loads(call.function.arguments)["city"]
    assert found[True] in ("London", "Rome")
    assert found[False] == "Paris"


def test_an_answer_beside_a_strict_function_may_be_text(client: openai.OpenAI) -> None:
    asked = {"model": "tiny-chat", "temperature": 0, "max_tokens": 60}
    hello = [{"role": "user", "content": "Hello!"}]
    held = client.chat.completions.create(messages=hello, tools=[BOOK], **asked).choices[0]
    loose = {"type": "function", "function": {**BOOK["function"], "strict": False}}
    free = client.chat.completions.create(messages=hello, tools=[loose], **asked).choices[0]
    assert held.message.content
    assert held == free


def test_thinking_comes_apart_and_is_counted(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "What is 35 minus 12?"}],
        reasoning_effort="high",
        temperature=0,
        max_tokens=120,
    )
    message = found.choices[0].message
    assert message.reasoning_content
    assert message.content == "35 - 12 = 23."
    tokens = found.usage.completion_tokens_details.reasoning_tokens
    assert 0 < tokens < found.usage.completion_tokens


def test_an_answer_goes_on_where_it_was_cut(client: openai.OpenAI) -> None:
    hello = [{"role": "user", "content": "Hello!"}]
    asked = {"model": "tiny-chat", "temperature": 0, "max_tokens": 60}
    whole = client.chat.completions.create(messages=hello, **asked).choices[0].message.content
    begun = whole[: whole.index(" ", len(whole) // 2)]
    rest = client.chat.completions.create(
        messages=[*hello, {"role": "assistant", "content": begun}],
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
        **asked,
    )
    assert begun + rest.choices[0].message.content == whole


def test_one_call_ends_the_answer_and_a_form_leaves_it_possible(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema, "strict": True}}
    asked = {"model": "tiny-chat", "temperature": 0, "max_tokens": 100, "tools": [WEATHER]}
    called = client.chat.completions.create(
        messages=ASK, response_format=form, parallel_tool_calls=False, **asked
    ).choices[0]
    assert called.finish_reason == "tool_calls"
    assert json.loads(called.message.tool_calls[0].function.arguments) == {"city": "Paris"}
    said = client.chat.completions.create(
        messages=ASK, response_format=form, tool_choice="none", **asked
    ).choices[0]
    jsonschema.validate(json.loads(said.message.content), schema)


def test_functions_are_called_as_of_old(client: openai.OpenAI) -> None:
    asked = {"model": "tiny-chat", "temperature": 0, "max_tokens": 100, "messages": ASK}
    functions = [WEATHER["function"]]
    whole = client.chat.completions.create(functions=functions, **asked).choices[0]
    assert whole.finish_reason == "function_call"
    assert whole.message.function_call.name == "get_weather"
    chunks = list(client.chat.completions.create(functions=functions, stream=True, **asked))
    deltas = [each.choices[0].delta.function_call for each in chunks]
    text = "".join(each.arguments for each in deltas if each)
    assert json.loads(text) == json.loads(whole.message.function_call.arguments)
    assert chunks[-1].choices[0].finish_reason == "function_call"


def test_thinking_is_bounded_for_each_answer_and_in_streams(client: openai.OpenAI) -> None:
    asked = {
        "model": "tiny-chat",
        "messages": [{"role": "user", "content": "What is 35 minus 12?"}],
        "temperature": 0,
        "n": 2,
        "max_tokens": 60,
        "extra_body": {"reasoning": {"max_tokens": 6}},
    }
    whole = client.chat.completions.create(**asked)
    assert whole.usage.completion_tokens_details.reasoning_tokens <= 2 * 7  # with the closing tag
    told = {each.index: (each.message.reasoning_content, each.message.content)
            for each in whole.choices}  # fmt: skip
    assert all(thought and answer for thought, answer in told.values())
    streamed = {0: ["", ""], 1: ["", ""]}
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        streamed[choice.index][0] += getattr(choice.delta, "reasoning_content", None) or ""
        streamed[choice.index][1] += choice.delta.content or ""
    assert {index: tuple(parts) for index, parts in streamed.items()} == told
