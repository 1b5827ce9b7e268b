"""/v1/responses by OpenAI's own client, on a fake host whose answers are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from answers import GIVEN
from dialects import CALL, FULL, served
from fakes import FakeHost
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter
from serving import config, eventually

from llmengine.errors import EngineOverloaded
from llmengine.server.responses_store import ResponseStore, Stored

TOOLS = [{"type": "function", **each["function"], "strict": False} for each in GIVEN]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@contextlib.contextmanager
def official(client: httpx.Client, key: str = "k") -> Iterator[openai.OpenAI]:
    base = f"{client.base_url}/v1"
    with openai.OpenAI(base_url=base, api_key=key, max_retries=0) as found:
        yield found


def answered(client: httpx.Client, input: Any = "hi", **body: Any) -> dict[str, Any]:
    response = client.post("/v1/responses", json={"input": input, **body})
    assert response.status_code == 200, response.text
    Response.model_validate(response.json(), strict=True)
    return dict(response.json())


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    """The events, each of which OpenAI's client knows and whose names are their types."""
    response = client.post("/v1/responses", json={"input": "hi", "stream": True, **body})
    assert response.status_code == 200, response.text
    found = []
    for at, event in enumerate(response.text.removesuffix("\n\n").split("\n\n")):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        assert found[-1]["sequence_number"] == at
        EVENT.validate_python(found[-1], strict=True)
    return found


def plain(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The output without what differs from answer to answer."""
    return [
        {name: value for name, value in item.items() if name not in ("id", "call_id")}
        for item in response["output"]
    ]


def prompts(host: FakeHost) -> list[str]:
    return [bytes(each for each in r.prompt if each < 256).decode() for r in host.requests]


def refused(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/responses", json={"input": "hi", **body})
    assert response.status_code == 400, response.text
    return dict(response.json()["error"])


def test_an_answer_is_items() -> None:
    with served(FULL, step=7) as (_, client):
        found = answered(client, tools=TOOLS)
    thinking, message, first, second = plain(found)
    assert thinking["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert message["content"] == [
        {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}
    ]
    assert (first["name"], first["arguments"]) == ("get_weather", '{"city": "Zürich"}')
    assert (second["name"], second["arguments"]) == ("get_time", '{"zone": "CET"}')
    assert {each["status"] for each in found["output"]} == {"completed"}
    assert found["status"] == "completed"
    size = len(FULL.encode())
    assert found["usage"]["output_tokens"] == size
    assert found["usage"]["total_tokens"] == size + found["usage"]["input_tokens"]
    details = found["usage"]["input_tokens_details"]
    assert details["cached_tokens"] == found["usage"]["input_tokens"] // 2
    # Outputs of seven bytes, of which the first three have to do with thinking.
    assert found["usage"]["output_tokens_details"]["reasoning_tokens"] == 21


def test_events_come_in_openais_order() -> None:
    with served(f"<think>hm</think>I look.\n{CALL}", step=1000) as (_, client):
        found = streamed(client, tools=TOOLS)
    names = [each["type"].removeprefix("response.") for each in found]
    assert list(zip(names, (each.get("output_index") for each in found), strict=True)) == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("completed", None),
    ]  # fmt: skip
    begun, whole = found[0]["response"], found[-1]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    done = [each["item"] for each in found if each["type"] == "response.output_item.done"]
    assert whole["output"] == done
    ids = [each["id"].rsplit("_", 1) for each in done]
    assert ids == [[f"{kind}_{begun['id'][5:]}", str(at)]
                   for at, kind in enumerate(("rs", "msg", "fc"))]  # fmt: skip


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    "answer", ["Hello 👩‍👩‍👧 é!", FULL, "", "<think>only", f"{CALL} and then?"]
)
def test_streamed_and_whole_are_the_same(answer: str, step: int) -> None:
    with served(answer, step=step) as (_, client):
        whole = answered(client, tools=TOOLS)
        events = streamed(client, tools=TOOLS)
    assert plain(events[-1]["response"]) == plain(whole)
    assert events[-1]["response"]["usage"] == whole["usage"]
    for kind, item, member in (
        ("output_text", "message", "text"),
        ("reasoning_text", "reasoning", "text"),
        ("function_call_arguments", "function_call", "arguments"),
    ):
        texts = {at: "" for at, each in enumerate(whole["output"]) if each["type"] == item}
        for each in events:
            if each["type"] == f"response.{kind}.delta":
                texts[each["output_index"]] += each["delta"]
        ends = [each[member] for each in events if each["type"] == f"response.{kind}.done"]
        assert list(texts.values()) == ends


def test_the_official_client_puts_a_stream_together() -> None:
    with served(FULL, step=5) as (_, client), official(client) as sdk:
        with sdk.responses.stream(model="fake", input="hi", tools=TOOLS) as stream:
            deltas = [each.delta for each in stream if each.type == "response.output_text.delta"]
            final = stream.get_final_response()
        assert "".join(deltas) == final.output_text == "I look."
        assert [each.type for each in final.output] == [
            "reasoning", "message", "function_call", "function_call",
        ]  # fmt: skip
        assert json.loads(final.output[2].arguments) == {"city": "Zürich"}
        assert sdk.responses.retrieve(final.id).output == sdk.responses.retrieve(final.id).output
        assert sdk.responses.retrieve(final.id).output_text == "I look."


def test_logprobs_are_those_of_the_text() -> None:
    asks = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    with served("<think>hm</think>Hello, world!") as (_, client):
        found = answered(client, **asks)
        text = found["output"][1]["content"][0]
        assert "".join(each["token"] for each in text["logprobs"]).endswith("world!")
        assert [len(each["top_logprobs"]) for each in text["logprobs"]][-6:] == [2] * 6
        events = streamed(client, **asks)
        of_deltas = [
            token
            for each in events
            if each["type"] == "response.output_text.delta"
            for token in each["logprobs"]
        ]
        assert of_deltas == text["logprobs"]
        assert answered(client)["output"][1]["content"][0]["logprobs"] == []
        assert refused(client, top_logprobs=2)["param"] == "top_logprobs"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_logprobs_of_a_text_that_comes_with_the_end_of_thinking(step: int) -> None:
    asks = {"include": ["message.output_text.logprobs"]}
    with served("<think>hm</think>Hello, world!", step=step) as (_, client):
        [text] = answered(client, **asks)["output"][1]["content"]
    assert "".join(each["token"] for each in text["logprobs"]) == "Hello, world!"


def test_what_is_said_of_the_request_comes_back() -> None:
    with served() as (host, client):
        found = answered(
            client,
            instructions="Be brief.",
            metadata={"a": "b"},
            user="u",
            temperature=0.5,
            top_p=0.25,
            max_output_tokens=99,
            reasoning={"effort": "low", "summary": "auto"},
            text={"format": {"type": "json_object"}},
            store=False,
        )
        assert found["instructions"] == "Be brief."
        assert (found["metadata"], found["user"]) == ({"a": "b"}, "u")
        assert (found["temperature"], found["top_p"], found["max_output_tokens"]) == (0.5, 0.25, 99)
        assert found["reasoning"] == {"effort": "low", "summary": "auto"}
        assert found["text"]["format"] == {"type": "json_object"}
        assert (found["truncation"], found["background"], found["store"]) == (
            "disabled",
            False,
            False,
        )
        params = host.requests[-1].params
        assert (params.temperature, params.top_p, params.max_tokens) == (0.5, 0.25, 99)
        assert params.constraint is not None
        assert params.constraint.kind == "json_object"
        assert prompts(host) == ["[system:Be brief.][user:hi]<think>"]


def test_items_become_the_messages_of_a_chat() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [],
         "content": [{"type": "reasoning_text", "text": "let me see"}]},
        {"type": "function_call", "call_id": "c1", "name": "get_time", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "get_time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "noon"},
        {"type": "function_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "night"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Noon.", "annotations": []}]},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "xyz"},
        {"role": "user", "content": "thanks"},
    ]  # fmt: skip
    call = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
    with served() as (host, client):
        answered(client, items, instructions="Be brief.")
        assert prompts(host) == [
            "[system:Be brief.\n\nBe kind.][user:ab]"
            f"[assistant:<think>let me see</think>{call}{call}]"
            "[tool:noon][tool:night][assistant:Noon.][user:thanks]"
        ]


def test_a_conversation_goes_on_from_a_stored_answer() -> None:
    with served(f"<think>hm</think>{CALL}") as (host, client), official(client) as sdk:
        first = sdk.responses.create(
            model="fake", input="hi", tools=TOOLS, instructions="Only now."
        )
        call = first.output[-1]
        assert call.type == "function_call"
        host.answer = "Sunny."
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "20 C"}
        second = sdk.responses.create(
            model="fake", input=[result], tools=TOOLS, previous_response_id=first.id
        )
        assert second.output_text == "Sunny."
        assert second.previous_response_id == first.id
        third = sdk.responses.create(
            model="fake",
            input=[{"type": "item_reference", "id": second.output[0].id}],
        )
        assert third.output_text == "Sunny."
        called = '<tool_call>{"name": "get_weather", "arguments": {"city": "Zürich"}}</tool_call>'
        assert prompts(host) == [
            "get_weather get_time [system:Only now.][user:hi]",
            f"get_weather get_time [user:hi][assistant:<think>hm</think>{called}][tool:20 C]",
            "[assistant:Sunny.]",
        ]
        items = sdk.responses.input_items.list(second.id, order="asc")
        assert [each.type for each in items] == [
            "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip


def test_stored_answers_are_read_paged_and_forgotten() -> None:
    with served() as (_, client), official(client) as sdk:
        given = [{"role": "user", "content": str(at)} for at in range(5)]
        made = sdk.responses.create(model="fake", input=given)
        assert sdk.responses.retrieve(made.id) == made
        page = client.get(f"/v1/responses/{made.id}/input_items?limit=2").json()
        ResponseItemList.model_validate(page, strict=True)
        assert [each["content"][0]["text"] for each in page["data"]] == ["4", "3"]
        assert (page["has_more"], page["last_id"]) == (True, page["data"][-1]["id"])
        listed = sdk.responses.input_items.list(made.id, limit=2, order="asc")
        assert [each.content[0].text for each in listed] == ["0", "1", "2", "3", "4"]
        for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=msg_1"):
            response = client.get(f"/v1/responses/{made.id}/input_items?{query}")
            assert response.status_code == 400
            assert response.json()["error"]["param"] == query.split("=")[0]
        assert client.get(f"/v1/responses/{made.id}?stream=true").status_code == 400
        with pytest.raises(openai.BadRequestError, match="nothing to cancel"):
            sdk.responses.cancel(made.id)
        sdk.responses.delete(made.id)
        for call in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.cancel):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        with pytest.raises(openai.BadRequestError) as gone:
            sdk.responses.create(model="fake", input="hi", previous_response_id=made.id)
        assert gone.value.code == "previous_response_not_found"
        unkept = sdk.responses.create(model="fake", input="hi", store=False)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(unkept.id)


def test_items_that_come_twice_are_paged_through_once() -> None:
    with served() as (_, client), official(client) as sdk:
        first = sdk.responses.create(model="fake", input="0")
        again = first.output[0].to_dict()
        same = [{"type": "message", "id": "m", "role": "user", "content": str(n)} for n in (1, 2)]
        made = sdk.responses.create(
            model="fake", input=[again, *same], previous_response_id=first.id
        )
        pages = sdk.responses.input_items.list(made.id, limit=1, order="asc")
        listed = list(itertools.islice(pages, 9))
        said = [each.content[0].text for each in listed]
        assert said == ["0", "Hello, world!", "Hello, world!", "1", "2"]
        reference = {"type": "item_reference", "id": listed[-1].id}
        assert answered(client, [reference])["status"] == "completed"


def test_a_stored_answer_is_read_once_however_often_it_is_referred_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    get = ResponseStore.get

    def counted(store: ResponseStore, key: str, id: str) -> Stored | None:
        read.append(id)
        return get(store, key, id)

    with served() as (host, client):
        made = [answered(client, text) for text in "ab"]
        monkeypatch.setattr(ResponseStore, "get", counted)
        inputs = [f"msg_{each['id'].removeprefix('resp_')}_i0" for each in made]
        references = [{"type": "item_reference", "id": each} for each in inputs * 10]
        answered(client, references)
        assert prompts(host)[-1] == "[user:a][user:b]" * 10
        assert sorted(read) == sorted(each["id"] for each in made)


def test_another_server_finds_them_but_not_for_another_key(tmp_path: Path) -> None:
    folder = tmp_path / "responses"
    one = config(responses_path=str(folder), api_key="one")
    other = config(responses_path=str(folder), api_key="other")
    with served(settings=one) as (_, client), official(client, "one") as sdk:
        id = sdk.responses.create(model="fake", input="hi").id
    assert folder.stat().st_mode & 0o777 == 0o700
    with served(settings=one) as (_, client), official(client, "one") as sdk:
        assert sdk.responses.retrieve(id).output_text == "Hello, world!"
    with served(settings=other) as (_, client), official(client, "other") as sdk:
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(id)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.delete(id)
        with pytest.raises(openai.BadRequestError):
            sdk.responses.create(model="fake", input="hi", previous_response_id=id)
        reference = {"type": "item_reference", "id": id.replace("resp", "msg") + "_0"}
        with pytest.raises(openai.BadRequestError) as missing:
            sdk.responses.create(model="fake", input=[reference])
        assert missing.value.param == "input[0]"


def test_tokens_are_counted_without_an_answer() -> None:
    with served() as (host, client), official(client) as sdk:
        found = sdk.responses.input_tokens.count(model="fake", input="hi", instructions="Be kind.")
        assert found.input_tokens == len("[system:Be kind.][user:hi]") + 1
        assert found.object == "response.input_tokens"
        assert host.requests == []


def test_max_output_tokens_ends_an_answer_incomplete() -> None:
    with served() as (_, client):
        found = answered(client, max_output_tokens=5)
        assert found["status"] == "incomplete"
        assert found["incomplete_details"] == {"reason": "max_output_tokens"}
        assert found["output"][0]["status"] == "incomplete"
        assert found["output"][0]["content"][0]["text"] == "Hello"
        last = streamed(client, max_output_tokens=5)[-1]
        assert last["type"] == "response.incomplete"
        assert plain(last["response"]) == plain(found)


def test_a_call_that_a_stop_string_cuts_off_is_incomplete() -> None:
    with served(CALL) as (_, client):
        found = answered(client, tools=TOOLS, stop="rich")
        (call,) = found["output"]
        assert (call["arguments"], call["status"]) == ('{"city": "Zü', "incomplete")
        assert plain(streamed(client, tools=TOOLS, stop="rich")[-1]["response"]) == plain(found)


def test_a_failure_ends_the_stream() -> None:
    with served() as (host, client):
        host.failure = EngineOverloaded("no room").info
        last = streamed(client)[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"] == {"code": "server_error", "message": "no room"}
        assert client.get(f"/v1/responses/{last['response']['id']}").status_code == 404
        whole = client.post("/v1/responses", json={"input": "hi"})
        assert (whole.status_code, whole.json()["error"]["message"]) == (503, "no room")


def test_cancel_ends_one_that_runs() -> None:
    with served("x" * 4000, delay=0.005) as (host, client), official(client) as sdk:
        stream = sdk.responses.create(model="fake", input="hi", stream=True)
        events = iter(stream)
        id = next(events).response.id
        assert sdk.responses.retrieve(id).status == "in_progress"
        assert any(each.type == "response.output_text.delta" for each in events)
        cancelled = sdk.responses.cancel(id)
        assert cancelled.status == "cancelled"
        *_, last = events
        assert (last.type, last.response.status) == ("response.incomplete", "cancelled")
        assert host.cancelled == [f"{id}-0"]
        assert sdk.responses.retrieve(id) == cancelled
        assert 0 < len(cancelled.output_text) < 4000


def test_a_client_that_goes_away_cancels() -> None:
    async def main(base: str) -> str:
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:
            stream = await client.responses.create(model="fake", input="hi", stream=True)
            first = await anext(aiter(stream))
            await stream.close()
            return str(first.response.id)

    with served("x" * 4000, delay=0.005) as (host, client):
        id = asyncio.run(main(f"{client.base_url}/v1"))
        assert eventually(lambda: host.cancelled == [f"{id}-0"])
        assert eventually(lambda: host.running == 0)
        assert client.get(f"/v1/responses/{id}").status_code == 404


def test_async_streams_side_by_side() -> None:
    async def one(client: openai.AsyncOpenAI, text: str) -> str:
        async with client.responses.stream(model="fake", input=text) as stream:
            return (await stream.get_final_response()).output_text

    async def main(base: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:
            return await asyncio.gather(*(one(client, f"say {at}") for at in range(16)))

    def echo(request: Any) -> str:
        return bytes(each for each in request.prompt if each < 256).decode()

    with served(echo) as (_, client):
        found = asyncio.run(main(f"{client.base_url}/v1"))
    assert found == [f"[user:say {at}]" for at in range(16)]


def test_tools_are_chosen_as_in_a_chat() -> None:
    with served(CALL) as (host, client):
        answered(client, tools=TOOLS, tool_choice={"type": "function", "name": "get_time"})
        constraint = host.requests[-1].params.constraint
        assert constraint is not None
        assert constraint.kind == "lark"
        assert "get_time" in constraint.source
        assert "get_weather" not in constraint.source
        only = {"type": "allowed_tools", "mode": "auto",
                "tools": [{"type": "function", "name": "get_time"}]}  # fmt: skip
        assert answered(client, tools=TOOLS, tool_choice=only)["tool_choice"] == only
        assert prompts(host)[-1] == "get_time [user:hi]"
        found = answered(client, tools=TOOLS, tool_choice="none")
        assert [each["type"] for each in found["output"]] == ["message"]


def test_samplers_of_a_chat_are_extensions() -> None:
    given = {"top_k": 7, "min_p": 0.25, "seed": 5, "repeat_penalty": 1.5, "thinking_budget": 9}
    asked = {"stop": ["zzz"], "reasoning": {"effort": "low"}}
    with served("so</think>yes") as (host, client):
        answered(client, **given, **asked)
        params = host.requests[-1].params
        assert {name: getattr(params, name) for name in given} == given
        assert params.stop == ("zzz",)


def test_a_schema_holds_the_text() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with served('{"a": 1}') as (host, client):
        format = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
        found = answered(client, text={"format": format})
        assert found["text"]["format"] == format
        constraint = host.requests[-1].params.constraint
        assert constraint is not None
        assert (constraint.kind, json.loads(constraint.source)) == ("json_schema", schema)


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[FakeHost, httpx.Client]]:
    """One server for all that is refused."""
    with served() as found:
        yield found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "web_search_call", "id": "w"}]}, "input[0].type"),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "king", "content": "a"}]}, "input[0].role"),
        ({"input": [{}]}, "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
         "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a", "parameters": {"type": "string"}}]},
         "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"include": ["something"]}, "include[0]"),
        ({"background": True}, "background"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "middle"}, "truncation"),
        ({"truncation": "auto", "overflow": "error"}, "truncation"),
        ({"truncation": "disabled", "overflow": "shift"}, "truncation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(
    refusing: tuple[FakeHost, httpx.Client], body: dict[str, Any], param: str
) -> None:
    host, client = refusing
    error = refused(client, **body)
    assert error["param"] == param
    assert f"`{param}`" in error["message"]
    assert host.requests == []


def test_storing_may_be_turned_off() -> None:
    with served(settings=config(responses_max_size_mb=0)) as (_, client):
        assert answered(client)["store"] is False
        assert refused(client, store=True)["param"] == "store"


def test_a_folder_that_cannot_be_used_costs_the_storing_only(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("hello")
    with served(settings=config(responses_path=str(tmp_path / "mine"))) as (_, client):
        assert answered(client)["store"] is False
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["letter.txt"]
