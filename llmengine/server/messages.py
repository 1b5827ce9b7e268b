"""/v1/messages and /v1/messages/count_tokens, as Anthropic's API has them."""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from llmengine.server import wire
from llmengine.server.dialect import worded
from llmengine.server.generation import answer_chat, head
from llmengine.server.messages_body import CountBody, MessagesBody
from llmengine.server.messages_format import MessagesFormat
from llmengine.server.messages_request import NAMES, asked
from llmengine.server.messages_wire import InputTokens
from llmengine.server.reader import Reader
from llmengine.server.record import record_of
from llmengine.server.state import state_of

blueprint = Blueprint("messages")


@blueprint.post("/v1/messages")
async def create(request: Request) -> HTTPResponse | None:
    state, record = state_of(request), record_of(request)
    found = await state.in_worker(asked, state, request.body, MessagesBody)
    record.unknown = found.unknown
    chat, first = found.chat, head(state, "msg_")
    format = MessagesFormat(
        first,
        Reader(chat.parser(state)),
        prompt=len(chat.prompt.tokens),
        limit=chat.params.max_tokens or 0,
        hidden=found.hidden,
        request=record.id,
    )
    with worded(NAMES):
        return await answer_chat(request, chat, first, format)


@blueprint.post("/v1/messages/count_tokens")
async def count_tokens(request: Request) -> HTTPResponse:
    state = state_of(request)
    found = await state.in_worker(asked, state, request.body, CountBody)
    record_of(request).unknown = found.unknown
    counted = InputTokens(len(found.chat.prompt.tokens))
    return HTTPResponse(wire.encode(counted), content_type="application/json")
