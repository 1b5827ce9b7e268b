"""/v1/cache: the prompt cache, seen and steered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sanic import Blueprint, HTTPResponse, Request

from llmengine.chat import prompt
from llmengine.chat.prompt import Prompt
from llmengine.errors import InvalidRequest
from llmengine.keys import digest
from llmengine.server import wire
from llmengine.server.bodies import WarmBody, decode
from llmengine.server.preparation import for_template
from llmengine.server.state import State, state_of
from llmengine.server.tools import checked
from llmengine.server.warming import check_shared, warm

blueprint = Blueprint("cache")

T = TypeVar("T")


@blueprint.get("/v1/cache")
async def stats(request: Request) -> HTTPResponse:
    return _json(await _aside(state_of(request).cache.stats))


@blueprint.get("/v1/cache/entries")
async def entries(request: Request) -> HTTPResponse:
    return _json(wire.CacheEntries(await _aside(state_of(request).cache.list)))


@blueprint.get("/v1/cache/entries/<id:str>")
async def entry(request: Request, id: str) -> HTTPResponse:
    return _json(await _aside(state_of(request).cache.show, id))


@blueprint.post("/v1/cache/entries/<id:str>/pin")
async def pin(request: Request, id: str) -> HTTPResponse:
    return await _pinned(request, id, True)


@blueprint.post("/v1/cache/entries/<id:str>/unpin")
async def unpin(request: Request, id: str) -> HTTPResponse:
    return await _pinned(request, id, False)


async def _pinned(request: Request, id: str, pinned: bool) -> HTTPResponse:
    return _json(wire.Pinned(await _aside(state_of(request).cache.pin, id, pinned), pinned))


@blueprint.delete("/v1/cache/entries/<id:str>")
async def remove(request: Request, id: str) -> HTTPResponse:
    return _json(wire.Deleted(await _aside(state_of(request).cache.remove, id)))


@blueprint.delete("/v1/cache/entries")
async def clear(request: Request) -> HTTPResponse:
    return _json(wire.Cleared(await _aside(state_of(request).cache.clear)))


@blueprint.post("/v1/cache/verify")
async def verify(request: Request) -> HTTPResponse:
    return _json(wire.Verified(await _aside(state_of(request).cache.verify)))


@blueprint.post("/v1/cache/warm")
async def warm_one(request: Request) -> HTTPResponse:
    state = state_of(request)
    _ = state.cache  # refused here where it is turned off
    check_shared(state.config, request.app.ctx.guard.keyring)
    body, made = await state.in_worker(_prepare, state, request.body)
    salt = state.salt(digest(state.config.server.api_key), body.cache_salt)
    return _json(await warm(state, made, label=body.label, salt=salt))


def _prepare(state: State, content: bytes) -> tuple[WarmBody, Prompt]:
    body, _ = decode(content, WarmBody)
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("give one of `prompt` and `messages`", param="prompt")
    tools = checked(body.tools)
    if body.prompt is not None:
        return body, prompt.of_text_beginning(state.host, body.prompt)
    messages = for_template(body.messages or (), state.media)
    return body, prompt.of_beginning(state.host, state.template, messages, tools=tools)


async def _aside(function: Callable[..., T], *arguments: Any) -> T:
    """Run what may wait for a disk or for the engine, while streams go on."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, partial(function, *arguments))


def _json(answer: object) -> HTTPResponse:
    return HTTPResponse(wire.encode(answer), content_type="application/json")
