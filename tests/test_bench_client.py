"""The benchmark's client against a server that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llmengine.bench.client import Client
from llmengine.bench.probe import probe
from llmengine.bench.record import Record
from llmengine.errors import InvalidRequest, ModelUnavailable, Unauthorized

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ticking:
    """A clock that says 1 the first time, then 2, and so on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def chunk(content: str | None = None, **more: Any) -> bytes:
    choices = [] if "usage" in more else [{"index": 0, "delta": {"content": content}}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 3},
}
DONE = b"data: [DONE]\n\n"


def streaming(*blocks: bytes, seen: list[Any] | None = None) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for block in blocks:
            await response.write(block)
        return response

    return handler


def answering(status: int, body: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handler


async def _with_server(routes: dict[str, Handler], work: Callable[[Client], Awaitable[Any]]) -> Any:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_route("*", f"/v1/{path}", handler)
    async with TestServer(app) as server, Client(str(server.make_url("/")), clock=Ticking()) as one:
        return await work(one)


def ask(handler: Handler, body: dict[str, Any] | None = None) -> Record:
    given = body or {"messages": [{"role": "user", "content": "Hi"}]}
    path = "chat/completions" if "messages" in given else "completions"
    return asyncio.run(_with_server({path: handler}, lambda client: client.ask(given, "part")))


def test_chunks_are_timed_and_counted() -> None:
    seen: list[Any] = []
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    found = ask(
        streaming(
            role,
            b": a comment\n\n",
            chunk("He"),
            chunk("llo") + chunk(None, usage=USAGE),
            DONE,
            seen=seen,
        )
    )
    # 1 is the start; the role brings no token.
    assert (found.started, found.arrivals, found.ended) == (1.0, [2.0, 3.0], 4.0)
    assert found.text == "Hello"
    assert (found.prompt_tokens, found.output_tokens, found.cached_tokens) == (7, 5, 3)
    assert found.part == "part"
    assert found.counted
    assert found.completed
    assert seen[0]["stream"] is True
    assert seen[0]["stream_options"] == {"include_usage": True}


def test_an_event_may_come_in_pieces() -> None:
    whole = chunk("one") + chunk("two")
    assert ask(streaming(whole[:20], whole[20:45], whole[45:], DONE)).text == "onetwo"


def test_thoughts_and_calls_of_tools_are_tokens_too() -> None:
    deltas = [{"reasoning_content": "Hm"}, {"reasoning": "so"}, {"tool_calls": [{"index": 0}]}]
    blocks = [
        b"data: " + json.dumps({"choices": [{"delta": each}]}).encode() + b"\n\n" for each in deltas
    ]
    found = ask(streaming(*blocks, DONE))
    assert len(found.arrivals) == 3
    assert not found.counted
    assert found.output_tokens == 3


def test_completions_stream_text() -> None:
    block = b'data: {"choices":[{"text":"Hi","finish_reason":"stop"}]}\r\n\r\n'
    found = ask(streaming(block, DONE), {"prompt": "Say hi"})
    assert (found.text, found.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize(
    ("handler", "error", "refused"),
    [
        (answering(429, {"error": {"message": "too many"}}), "HTTP 429: too many", True),
        (answering(503, {"error": {"message": "queue full"}}), "HTTP 503: queue full", True),
        (answering(500, {"detail": "oops"}), 'HTTP 500: {"detail": "oops"}', False),
        (streaming(chunk("a"), b'data: {"error":{"message":"failed"}}\n\n'), "failed", False),
        (streaming(chunk("a")), "the stream broke off", False),
        (streaming(DONE), "an answer without a token", False),
        (streaming(b"data: {oops\n\n"), "an event that is no chunk: ", False),
    ],
)
def test_what_goes_wrong_is_told(handler: Handler, error: str, refused: bool) -> None:
    found = ask(handler)
    assert found.error.startswith(error)
    assert found.refused is refused
    assert not found.completed


def test_a_connection_that_breaks_is_an_error() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert ask(broken).error.startswith(("ServerDisconnectedError", "ClientOSError"))


# Probing

MODELS = answering(200, {"data": [{"id": "one"}]})


def completing(per_word: int, around: int, *, strict: bool = False) -> Handler:
    """A server of that tokenizer; a strict one knows no `ignore_eos`."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if strict and "ignore_eos" in body:
            return web.json_response({"error": {"message": "unknown"}}, status=400)
        if body.get("stream"):
            return await streaming(chunk("a"), chunk(None, usage=USAGE), DONE)(request)
        count = len(body["messages"][0]["content"].split()) * per_word + around
        return web.json_response({"usage": {"prompt_tokens": count}})

    return handler


def probed(routes: dict[str, Handler], model: str = "") -> Any:
    return asyncio.run(_with_server(routes, lambda client: probe(client, model, {})))


def test_a_probe_finds_model_and_tokenizer() -> None:
    found = probed({"models": MODELS, "chat/completions": completing(2, 9)})
    assert found.model == "one"
    assert (found.ruler.per_word, found.ruler.around) == (2, 9)
    assert found.filling == {"ignore_eos": True}
    assert found.notes == ()


def test_a_server_that_does_not_know_ignore_eos_is_not_sent_it() -> None:
    found = probed({"models": MODELS, "chat/completions": completing(1, 0, strict=True)})
    assert found.filling == {}
    assert found.notes == ("the server takes no ignore_eos: answers may be shorter than wanted",)


@pytest.mark.parametrize(
    ("routes", "model", "error", "message"),
    [
        ({"models": answering(401, {})}, "", Unauthorized, "refuses the key"),
        ({"models": answering(200, {"data": []})}, "", ModelUnavailable, "lists no models"),
        ({"models": MODELS}, "two", InvalidRequest, "has no model two; it has one"),
        ({"models": MODELS}, "", ModelUnavailable, "does not answer a chat: HTTP 404"),
    ],
)
def test_servers_that_cannot_be_measured_are_told(
    routes: dict[str, Handler], model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        probed(routes, model)


def test_no_server_is_told() -> None:
    async def main() -> None:
        async with Client("http://127.0.0.1:1") as client:
            await probe(client, "", {})

    with pytest.raises(ModelUnavailable, match=r"no server answers at http://127\.0\.0\.1:1/v1"):
        asyncio.run(main())
