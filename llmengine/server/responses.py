"""/v1/responses: answers made of items, stored to be read again and to go on from."""

from __future__ import annotations

from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from llmengine.errors import InvalidRequest, NotFound
from llmengine.server import wire
from llmengine.server.dialect import worded
from llmengine.server.generation import answer_chat, head
from llmengine.server.page import page
from llmengine.server.reader import Reader
from llmengine.server.record import record_of
from llmengine.server.responses_format import ResponsesFormat
from llmengine.server.responses_request import NAMES, asked
from llmengine.server.responses_store import Stored
from llmengine.server.responses_wire import InputTokenCount, ItemList, Response, ResponseDeleted
from llmengine.server.state import State, state_of

blueprint = Blueprint("responses")


@blueprint.post("/v1/responses")
async def create(request: Request) -> HTTPResponse | None:
    state, key = state_of(request), request.ctx.key.digest
    first = head(state, "resp_")
    found = await state.in_worker(asked, state, first, key, request.body)
    record_of(request).unknown = found.unknown

    async def keep(response: Response) -> None:
        if response.store:
            stored = Stored(response, found.input)
            response.store = await state.in_worker(state.responses.keep, key, stored)

    chat = found.chat
    format = ResponsesFormat(found.response, Reader(chat.parser(state)), keep)
    state.running[key, first.id] = format
    try:
        with worded(NAMES):
            return await answer_chat(request, chat, first, format)
    finally:
        del state.running[key, first.id]
        format.ended.set()


@blueprint.post("/v1/responses/input_tokens")
async def input_tokens(request: Request) -> HTTPResponse:
    state = state_of(request)
    none = head(state, "resp_")  # no answer is made
    found = await state.in_worker(asked, state, none, request.ctx.key.digest, request.body)
    record_of(request).unknown = found.unknown
    return _json(InputTokenCount(len(found.chat.prompt.tokens)))


@blueprint.get("/v1/responses/<id:str>")
async def retrieve(request: Request, id: str) -> HTTPResponse:
    if request.args.get("stream") == "true":
        raise InvalidRequest("`stream`: an answer streams only when it is made", param="stream")
    state, key = state_of(request), request.ctx.key.digest
    if running := state.running.get((key, id)):
        return _json(running.response)
    return _json((await _stored(state, key, id)).response)


@blueprint.delete("/v1/responses/<id:str>")
async def delete(request: Request, id: str) -> HTTPResponse:
    state = state_of(request)
    if not await state.in_worker(state.responses.delete, request.ctx.key.digest, id):
        raise _missing(id)
    return _json(ResponseDeleted(id))


@blueprint.get("/v1/responses/<id:str>/input_items")
async def input_items(request: Request, id: str) -> HTTPResponse:
    """What the model got, also from the answers before; the latest first by default."""
    stored = await _stored(state_of(request), request.ctx.key.digest, id)
    return _json(_page(stored, request.args))


@blueprint.post("/v1/responses/<id:str>/cancel")
async def cancel(request: Request, id: str) -> HTTPResponse:
    state, key = state_of(request), request.ctx.key.digest
    running = state.running.get((key, id))
    if running is None:
        await _stored(state, key, id)
        raise InvalidRequest("the response has ended: there is nothing to cancel", param="id")
    state.dispatcher.stop(f"{id}-0")
    await running.ended.wait()
    return _json(running.response)


async def _stored(state: State, key: str, id: str) -> Stored:
    found: Stored | None = await state.in_worker(state.responses.get, key, id)
    if found is None:
        raise _missing(id)
    return found


def _missing(id: str) -> NotFound:
    return NotFound(f"there is no stored response {id[:100]!r}", param="id")


def _page(stored: Stored, query: Any) -> ItemList:
    shown, more = page(stored.input, query)
    return ItemList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=more,
    )


def _json(found: object) -> HTTPResponse:
    return HTTPResponse(wire.encode(found), content_type="application/json")
