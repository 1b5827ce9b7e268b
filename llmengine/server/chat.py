"""POST /v1/chat/completions"""

from __future__ import annotations

from sanic import Blueprint, HTTPResponse, Request

from llmengine.server import parameters
from llmengine.server.bodies import ChatBody, decode
from llmengine.server.chat_format import ChatFormat
from llmengine.server.dialect import worded
from llmengine.server.functions import NAMES
from llmengine.server.generation import answer_chat, head
from llmengine.server.preparation import Prepared, prepared
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of

blueprint = Blueprint("chat")


@blueprint.post("/v1/chat/completions")
async def chat_completions(request: Request) -> HTTPResponse | None:
    state = state_of(request)
    chat, record_of(request).unknown = await state.in_worker(_prepare, state, request.body)
    body, first = chat.body, head(state, "chatcmpl-")
    parsers = [chat.parser(state) for _ in range(body.choices)]
    return await answer_chat(request, chat, first, ChatFormat(first, parsers, body))


def _prepare(state: State, content: bytes) -> tuple[Prepared, list[str]]:
    body, fields = decode(content, ChatBody)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict)
    with worded(NAMES if body.functions else {}):
        return prepared(state, body), unknown
