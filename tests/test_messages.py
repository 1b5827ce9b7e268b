"""/v1/messages by Anthropic's own client, on a fake host whose answers are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from answers import GIVEN
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from dialects import CALL, FULL, served
from fakes import FakeHost
from pydantic import TypeAdapter
from serving import config, eventually

from llmengine.errors import EngineOverloaded, InvalidRequest
from llmengine.keys import KeyFile, generated

TOOLS = [
    {
        "name": each["function"]["name"],
        "description": each["function"].get("description", ""),
        "input_schema": each["function"]["parameters"],
    }
    for each in GIVEN
]
HI = [{"role": "user", "content": "hi"}]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@contextlib.contextmanager
def official(client: httpx.Client, key: str = "k") -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=str(client.base_url), api_key=key, max_retries=0) as found:
        yield found


def post(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/messages", json={"messages": HI, "max_tokens": 1000, **body})


def answered(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = post(client, **body)
    assert response.status_code == 200, response.text
    Message.model_validate(response.json(), strict=True)
    return dict(response.json())


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    """The events, each of which Anthropic's client knows and whose names are their types."""
    response = post(client, stream=True, **body)
    assert response.status_code == 200, response.text
    found = []
    for event in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        if found[-1]["type"] not in ("ping", "error"):
            EVENT.validate_python(found[-1], strict=True)
    return found


def prompts(host: FakeHost) -> list[str]:
    return [bytes(each for each in r.prompt if each < 256).decode() for r in host.requests]


def plain(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks without the ids of calls, which differ from answer to answer."""
    return [{name: each[name] for name in each if name != "id"} for each in content]


def test_an_answer_is_blocks() -> None:
    with served(FULL, step=7) as (_, client):
        found = answered(client, tools=TOOLS)
    thinking, text, first, second = found["content"]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert text == {"type": "text", "text": "I look.", "citations": None}
    assert (first["name"], first["input"]) == ("get_weather", {"city": "Zürich"})
    assert (second["name"], second["input"]) == ("get_time", {"zone": "CET"})
    assert first["id"] != second["id"]
    assert (found["role"], found["model"], found["stop_reason"]) == (
        "assistant",
        "fake",
        "tool_use",
    )
    prompt = len("get_weather get_time [user:hi]") + 1
    assert found["usage"] == {
        "input_tokens": prompt - prompt // 2,
        "cache_read_input_tokens": prompt // 2,
        "cache_creation_input_tokens": 0,
        "output_tokens": len(FULL.encode()),
    }


def test_events_come_in_anthropics_order() -> None:
    with served(f"<think>hm</think>I look.\n{CALL}", step=1000) as (_, client):
        found = streamed(client, tools=TOOLS)
    assert [(each["type"], each.get("index")) for each in found] == [
        ("message_start", None),
        ("ping", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    deltas = [each["delta"] for each in found if each["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": ""},
        {"type": "text_delta", "text": "I look."},
        {"type": "input_json_delta", "partial_json": '{"city": "Zürich"}'},
    ]
    begun = [each["content_block"] for each in found if each["type"] == "content_block_start"]
    assert [each["type"] for each in begun] == ["thinking", "text", "tool_use"]
    assert begun[2]["input"] == {}
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    "answer", ["Hello 👩‍👩‍👧 é!", FULL, "", "<think>only", f"{CALL} and then?"]
)
def test_the_official_client_gets_the_same_streamed_and_whole(answer: str, step: int) -> None:
    asks: dict[str, Any] = {"model": "fake", "max_tokens": 1000, "messages": HI, "tools": TOOLS}
    with served(answer, step=step) as (_, client), official(client) as sdk:
        whole = sdk.messages.create(**asks)
        with sdk.messages.stream(**asks) as stream:
            texts = "".join(stream.text_stream)
            final = stream.get_final_message()
        streamed(client, tools=TOOLS)
    assert texts == "".join(each.text for each in whole.content if each.type == "text")
    first, second = (
        whole.model_dump(),
        final.model_dump(exclude={"content": {"__all__": {"parsed_output"}}}),
    )
    assert plain(first["content"]) == plain(second["content"])
    assert first["usage"] == second["usage"]
    assert first["stop_reason"] == second["stop_reason"]


def test_a_tool_goes_there_and_back() -> None:
    with served(FULL) as (host, client), official(client) as sdk:
        asks: dict[str, Any] = {"model": "fake", "max_tokens": 1000, "tools": TOOLS}
        first = sdk.messages.create(messages=HI, **asks)
        results = [
            {
                "type": "tool_result",
                "tool_use_id": each.id,
                "content": content,
                "is_error": bool(at),
            }
            for at, (each, content) in enumerate(
                zip(first.content[2:], ["20 C", [{"type": "text", "text": "broken"}]], strict=True)
            )
        ]
        host.answer = "Sunny."
        said = [*results, {"type": "text", "text": "And now?"}]
        second = sdk.messages.create(
            messages=[
                *HI,
                {"role": "assistant", "content": first.content},
                {"role": "user", "content": said},
            ],
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            **asks,
        )
        assert second.content[0].text == "Sunny."
        assert second.stop_reason == "end_turn"
        calls = (
            '<tool_call>{"name": "get_weather", "arguments": {"city": "Zürich"}}</tool_call>'
            '<tool_call>{"name": "get_time", "arguments": {"zone": "CET"}}</tool_call>'
        )
        assert prompts(host)[1] == (
            "get_weather get_time [system:Be kind.][user:hi]"
            f"[assistant:I look.<think>hm</think>{calls}]"
            "[tool:20 C][tool:Error: broken][user:And now?]"
        )


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('{"city": "T', {"INVALID_JSON": '{"city": "T'}),
        ('{"city": "T" "U"}', {"INVALID_JSON": '{"city": "T" "U"}'}),
        ("{}", {}),
    ],
)
def test_arguments_that_are_no_json_are_not_lost(written: str, found: dict[str, str]) -> None:
    call = '<tool_call>{"name": "get_weather", "arguments": ' + written
    with served(call + ("}</tool_call>" if written == "{}" else "")) as (_, client):
        [block] = answered(client, tools=TOOLS)["content"]
        assert (block["name"], block["input"]) == ("get_weather", found)


def test_why_an_answer_ends() -> None:
    with served("one two three", context=64) as (host, client):
        assert answered(client)["stop_reason"] == "end_turn"
        found = answered(client, stop_sequences=["zzz", " two"])
        assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", " two")
        assert found["content"][0]["text"] == "one"
        found = answered(client, max_tokens=3)
        assert (found["stop_reason"], found["stop_sequence"]) == ("max_tokens", None)
        assert streamed(client, max_tokens=3)[-2]["delta"]["stop_reason"] == "max_tokens"
        assert host.requests[1].params.stop == ("zzz", " two")
        host.answer = CALL
        for bound, reason, written in (
            ({"max_tokens": 60}, ("max_tokens", None), '{"city": "Z'),
            ({"stop_sequences": ["rich"]}, ("stop_sequence", "rich"), '{"city": "Zü'),
        ):
            found = answered(client, tools=TOOLS, **bound)
            assert (found["stop_reason"], found["stop_sequence"]) == reason
            assert found["content"][0]["input"] == {"INVALID_JSON": written}


def test_tools_are_chosen() -> None:
    with served(CALL) as (host, client):
        for choice, names in (
            ({"type": "any"}, {"get_weather", "get_time"}),
            ({"type": "tool", "name": "get_time"}, {"get_time"}),
        ):
            answered(client, tools=TOOLS, tool_choice=choice)
            constraint = host.requests[-1].params.constraint
            assert constraint is not None
            assert {
                each for each in ("get_weather", "get_time") if each in constraint.source
            } == names
        host.answer = FULL
        one = {"type": "auto", "disable_parallel_tool_use": True}
        found = answered(client, tools=TOOLS, tool_choice=one)
        assert [each["type"] for each in found["content"]] == ["thinking", "text", "tool_use"]
        found = answered(client, tools=TOOLS, tool_choice={"type": "none"})
        assert [each["type"] for each in found["content"]] == ["thinking", "text"]
        assert prompts(host)[-1] == "[user:hi]"


def test_an_answer_goes_on_with_the_assistants_words() -> None:
    with served(" far.") as (host, client):
        found = answered(client, messages=[*HI, {"role": "assistant", "content": "So "}])
        assert [each["text"] for each in found["content"]] == [" far."]
        assert prompts(host)[-1] == "[user:hi][assistant:So "


def test_thinking_is_asked_for() -> None:
    with served("so it is</think>yes") as (host, client):
        found = answered(client, thinking={"type": "enabled", "budget_tokens": 100})
        assert prompts(host)[-1] == "[user:hi]<think>"
        assert found["content"][0]["thinking"] == "so it is"
        params = host.requests[-1].params
        assert (params.thinking_budget, params.thinking_tags) == (100, ("", "</think>"))
        hidden = {"type": "adaptive", "display": "omitted"}
        found = answered(client, thinking=hidden)
        assert [each["type"] for each in found["content"]] == ["thinking", "text"]
        assert found["content"][0]["thinking"] == ""
        deltas = [each["delta"]["type"] for each in streamed(client, thinking=hidden)
                  if each["type"] == "content_block_delta"]  # fmt: skip
        assert set(deltas) == {"signature_delta", "text_delta"}
        for asked in ({"thinking": {"type": "disabled"}}, {}):
            answered(client, **asked)
            assert prompts(host)[-1] == "[user:hi]"


def test_a_schema_holds_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with served('{"a": 1}') as (host, client):
        answered(client, output_config={"format": {"type": "json_schema", "schema": schema}})
        constraint = host.requests[-1].params.constraint
        assert constraint is not None
        assert (constraint.kind, json.loads(constraint.source)) == ("json_schema", schema)
        params = {"temperature": 0.25, "top_p": 0.5, "top_k": 7, "seed": 3}
        answered(client, **params)
        found = host.requests[-1].params
        assert {name: getattr(found, name) for name in params} == params


def test_tokens_are_counted_without_an_answer() -> None:
    with served() as (host, client), official(client) as sdk:
        found = sdk.messages.count_tokens(model="fake", messages=HI, tools=TOOLS, system="Be kind.")
        expected = len("get_weather get_time [system:Be kind.][user:hi]") + 1
        assert found == MessageTokensCount(input_tokens=expected)
        assert host.requests == []
        sdk.messages.create(model="fake", messages=HI, tools=TOOLS, system="Be kind.", max_tokens=9)
        assert len(host.requests[0].prompt) == expected


def test_errors_have_anthropics_shape() -> None:
    with served(settings=config(api_key="right")) as (host, client):
        with official(client, "wrong") as sdk, pytest.raises(anthropic.AuthenticationError):
            sdk.messages.create(model="fake", messages=HI, max_tokens=9)
        accepted = {"x-api-key": "right", "anthropic-version": "2023-06-01"}
        body = {"messages": HI, "max_tokens": 9}
        answer = client.post("/v1/messages", json=body, headers=accepted)
        assert answer.status_code == 200
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        refused = client.post("/v1/messages", json=body, headers={"x-api-key": "rong"})
        ErrorResponse.model_validate(refused.json(), strict=True)
        assert (refused.status_code, refused.json()["error"]["type"]) == (
            401,
            "authentication_error",
        )
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
        with official(client, "right") as sdk:
            named = sdk.messages.create(
                model="fake", messages=HI, max_tokens=9, extra_headers={"x-request-id": "mine"}
            )
            assert named._request_id == "mine"
            with pytest.raises(anthropic.NotFoundError) as missing:
                sdk.messages.create(model="claude", messages=HI, max_tokens=9)
            assert missing.value.body["error"]["type"] == "not_found_error"
            assert missing.value.request_id == missing.value.body["request_id"]
            with pytest.raises(anthropic.BadRequestError, match="`max_tokens` is missing"):
                sdk.post("/v1/messages", cast_to=Message, body={"messages": HI})
            host.refuse = EngineOverloaded("the queue is full")
            with pytest.raises(anthropic.APIStatusError) as full:
                sdk.messages.create(model="fake", messages=HI, max_tokens=9)
            assert full.value.status_code == 503
            assert full.value.body["error"] == {
                "type": "overloaded_error", "message": "the queue is full",
            }  # fmt: skip
            host.refuse = None
            host.failure = EngineOverloaded("no room").info
            with (
                sdk.messages.stream(model="fake", messages=HI, max_tokens=9) as stream,
                pytest.raises(anthropic.APIStatusError, match="no room"),
            ):
                stream.get_final_message()


def test_what_a_key_may_not_do_is_a_matter_of_permission(tmp_path: Path) -> None:
    secret, key = generated(scopes=("metrics",))
    KeyFile(str(tmp_path / "keys.json")).add(key)
    settings = config(keys_file=str(tmp_path / "keys.json"))
    with served(settings=settings) as (_, client), official(client, secret) as sdk:
        with pytest.raises(anthropic.PermissionDeniedError) as refused:
            sdk.messages.create(model="fake", messages=HI, max_tokens=9)
        assert refused.value.body["error"]["type"] == "permission_error"


def test_what_the_engine_refuses_is_named_as_here() -> None:
    form = {"type": "json_schema", "schema": {"type": "string"}}
    with served() as (host, client):
        param = "response_format.json_schema.schema"
        host.refuse = InvalidRequest(f"`{param}`: it takes too long", param=param)
        for stream in (False, True):
            found = post(client, output_config={"format": form}, stream=stream)
            assert found.status_code == 400
            assert found.json()["error"]["message"] == (
                "`output_config.format.schema`: it takes too long"
            )


def test_a_client_that_goes_away_cancels() -> None:
    async def main(base: str) -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=base, api_key="k", max_retries=0) as client:
            asks: dict[str, Any] = {"model": "fake", "messages": HI, "max_tokens": 5000}

            async def one() -> str:
                async with client.messages.stream(**asks) as stream:
                    return await stream.get_final_text()

            found = await asyncio.gather(*(one() for _ in range(8)))
            host.answer, host.delay = "x" * 4000, 0.005
            stream = await client.messages.create(**asks, stream=True)
            async for event in stream:
                if event.type == "content_block_delta":
                    break
            await stream.close()
            return found

    with served() as (host, client):
        assert asyncio.run(main(str(client.base_url))) == ["Hello, world!"] * 8
        assert eventually(lambda: len(host.cancelled) == 1)
        assert eventually(lambda: host.running == 0)


def content(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[FakeHost, httpx.Client]]:
    """One server for all that is refused."""
    with served() as found:
        yield found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (content({"type": "image", "source": {}}), "messages[0].content[0].source.type"),
        (content({"type": "document"}), "messages[0].content[0].type"),
        (content({"type": "text"}), "messages[0].content[0].text"),
        (content({"type": "tool_result", "content": "a"}), "messages[0].content[0].tool_use_id"),
        (content({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]}),
         "messages[0].content[0].content[0].source"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a",
          "name": "b"}]}, *HI]}, "messages[0].content[0].input"),
        ({"messages": [*HI, {"role": "assistant", "content": ""}]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"temperature": "hot"}, "temperature"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a", "input_schema": {"type": "string"}}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "display": "loud"}}, "thinking.display"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"container": "c"}, "container"),
        ({"stop": ["a"]}, "stop"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(
    refusing: tuple[FakeHost, httpx.Client], body: dict[str, Any], param: str
) -> None:
    host, client = refusing
    response = post(client, **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"`{param}`"), error
    assert host.requests == []
