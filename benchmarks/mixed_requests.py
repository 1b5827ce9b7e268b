"""The kinds of requests of `benchmarks.mixed_load`, each with what its answer has to be."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

WORDS = ["mango", "river", "candle", "window", "garden", "copper", "pencil", "island"]
SPOKEN = re.compile(rf"(?:{'|'.join(WORDS)})\d{{5,}}")  # what looks like a marker
MODEL = "tiny-chat"

Client = httpx.AsyncClient


class Marker:
    """A word that no other request has, and chances."""

    def __init__(self, source: random.Random, number: int) -> None:
        self.word = f"{source.choice(WORDS)}{number}"
        self.chance = source.random()
        self.seed = number

    def check(self, text: str) -> None:
        """Raise AssertionError unless `text` has this marker and no other."""
        assert self.word in text, f"{text!r} lacks it"
        others = set(SPOKEN.findall(text)) - {self.word}
        assert not others, f"{text!r} has {others}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": f"Repeat: {self.word}"}]

    @property
    def schema(self) -> dict[str, Any]:
        word = {"enum": [self.word]}
        return {
            "type": "object",
            "properties": {"word": word, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["word", "count"],
            "additionalProperties": False,
        }

    def body(self, **more: Any) -> dict[str, Any]:
        return {"messages": self.messages, "max_tokens": 200, "seed": self.seed, **more}


async def _post(client: Client, path: str, body: dict[str, Any]) -> Any:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def _events(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    found = []
    async with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.status_code
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(line[6:])
    assert found[-1] == "[DONE]", found[-1]
    return [json.loads(each) for each in found[:-1]]


def _regex(marker: Marker) -> str:
    return marker.word + "( [a-z]{1,8}){0,3}"


async def chat(client: Client, marker: Marker) -> None:
    body = marker.body(guided_regex=_regex(marker), n=1 + (marker.chance < 0.3))
    for choice in (await _post(client, "/v1/chat/completions", body))["choices"]:
        marker.check(choice["message"]["content"])


async def stream(client: Client, marker: Marker) -> None:
    texts = ["", ""]
    body = marker.body(guided_regex=_regex(marker), n=2, logprobs=marker.chance < 0.5)
    for event in await _events(client, "/v1/chat/completions", body):
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    for text in texts:
        marker.check(text)


async def free(client: Client, marker: Marker) -> None:
    """Nothing forces the marker here, and the model may err in its digits, but not in its word."""
    found = await _post(client, "/v1/chat/completions", marker.body(temperature=0, max_tokens=12))
    choice = found["choices"][0]
    text = choice["message"]["content"] or ""
    assert all(each not in text or each in marker.word for each in WORDS), text
    assert choice["finish_reason"] in ("stop", "length"), choice


async def completion(client: Client, marker: Marker) -> None:
    prompts = [f"{marker.word} one", f"{marker.word} two"]
    body = {"prompt": prompts, "echo": True, "max_tokens": 6, "seed": marker.seed}
    found = await _post(client, "/v1/completions", body)
    for choice, given in zip(found["choices"], prompts, strict=True):
        assert choice["text"].startswith(given), choice["text"]


async def tool(client: Client, marker: Marker) -> None:
    function = {"name": "note", "parameters": marker.schema}
    body = marker.body(tools=[{"type": "function", "function": function}], tool_choice="required")
    found = await _post(client, "/v1/chat/completions", {**body, "parallel_tool_calls": False})
    (call,) = found["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["word"] == marker.word, call


async def schema(client: Client, marker: Marker) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "note", "schema": marker.schema}}
    found = await _post(client, "/v1/chat/completions", marker.body(response_format=form))
    assert json.loads(found["choices"][0]["message"]["content"])["word"] == marker.word, found


async def responses(client: Client, marker: Marker) -> None:
    form = {"type": "json_schema", "name": "note", "schema": marker.schema}
    body = {"input": marker.messages[0]["content"], "text": {"format": form}, "store": False}
    found = await _post(client, "/v1/responses", {**body, "max_output_tokens": 200})
    texts = [part["text"] for item in found["output"] for part in item.get("content") or ()]
    assert json.loads(texts[-1])["word"] == marker.word, found


async def messages(client: Client, marker: Marker) -> None:
    tools = [{"name": "note", "input_schema": marker.schema}]
    body = {"model": MODEL, "messages": marker.messages, "max_tokens": 200, "tools": tools}
    found = await _post(client, "/v1/messages", {**body, "tool_choice": {"type": "any"}})
    inputs = [part["input"] for part in found["content"] if part["type"] == "tool_use"]
    assert inputs[0]["word"] == marker.word, found


async def embeddings(client: Client, marker: Marker) -> None:
    """Equal texts have equal vectors, whatever is computed beside them."""
    body = {"input": [marker.word, "something else", marker.word]}
    found = await _post(client, "/v1/embeddings", body)
    one, other, again = (each["embedding"] for each in found["data"])
    assert _cosine(one, again) > 0.999, _cosine(one, again)
    assert _cosine(one, other) < 0.999, _cosine(one, other)


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def rerank(client: Client, marker: Marker) -> None:
    documents = ["a long day at the sea", marker.word, "bread"]
    body = {"query": marker.word, "documents": documents, "return_documents": True}
    found = await _post(client, "/v1/rerank", body)
    assert sorted(each["index"] for each in found["results"]) == [0, 1, 2], found
    assert found["results"][0]["document"]["text"] == marker.word, found


async def tokens(client: Client, marker: Marker) -> None:
    text = f"{marker.word} 🙂 é"
    found = await _post(client, "/tokenize", {"content": text})
    back = await _post(client, "/detokenize", {"tokens": found["tokens"]})
    assert back["content"] == text, back


async def gone(client: Client, marker: Marker) -> None:
    """A client that leaves: before the answer begins, or in the middle of it."""
    body = marker.body(stream=True, max_tokens=400, ignore_eos=True)
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.status_code
        if marker.chance < 0.5:
            await anext(response.aiter_bytes())


async def malformed(client: Client, marker: Marker) -> None:
    body = {"messages": marker.messages, "n": -1}
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": marker.word}}}
    response = await client.post("/v1/chat/completions", json=marker.body(response_format=form))
    assert response.status_code == 400, response.text


KINDS: dict[str, Callable[[Client, Marker], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        chat, stream, free, completion, tool, schema, responses, messages, embeddings, rerank,
        tokens, gone, malformed,
    )
}  # fmt: skip
