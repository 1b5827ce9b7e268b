"""POST /tokenize, /detokenize and /apply-template: what the model sees of a text.

The shapes are llama-server's; vLLM's names for the same are understood and answered as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from sanic import Blueprint, HTTPResponse, Request

from llmengine.errors import InvalidRequest
from llmengine.server import parameters, wire
from llmengine.server.bodies import ChatBody, TokenId, decode
from llmengine.server.functions import modern
from llmengine.server.preparation import conversation
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of
from llmengine.server.tools import plan_of

MAX_LENGTH = 2**20  # characters of a text, and tokens

blueprint = Blueprint("tokens")

Text = Annotated[str, Meta(max_length=MAX_LENGTH)]


class TokenizeBody(Struct, kw_only=True):
    content: Text | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    model: str | None = None
    # vLLM's
    prompt: Text | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(Struct, kw_only=True):
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_LENGTH)]
    model: str | None = None


class Token(Struct):
    id: int
    piece: str | list[int]  # its bytes, where they are no whole characters


class Tokenized(Struct):
    tokens: Sequence[int | Token]
    count: int
    max_model_len: int
    token_strs: list[str] | UnsetType = UNSET


class Detokenized(Struct):
    content: str
    prompt: str  # the same, as vLLM calls it


class Applied(Struct):
    prompt: str


@blueprint.post("/tokenize")
async def tokenize(request: Request) -> HTTPResponse:
    return await _answer(request, TokenizeBody, _tokenized)


@blueprint.post("/detokenize")
async def detokenize(request: Request) -> HTTPResponse:
    return await _answer(request, DetokenizeBody, _detokenized)


@blueprint.post("/apply-template")
async def apply_template(request: Request) -> HTTPResponse:
    return await _answer(request, ChatBody, _applied)


async def _answer(
    request: Request, kind: type[Any], function: Callable[[State, Any], Struct]
) -> HTTPResponse:
    def prepare() -> tuple[bytes, list[str]]:
        body, fields = decode(request.body, kind)
        unknown = parameters.unknown(body, fields, strict=state.config.server.strict_parameters)
        state.check_model(body.model)
        return wire.encode(function(state, body)), unknown

    state = state_of(request)
    answer, record_of(request).unknown = await state.in_worker(prepare)
    return HTTPResponse(answer, content_type="application/json")


def _tokenized(state: State, body: TokenizeBody) -> Tokenized:
    if (body.content is None) == (body.prompt is None):
        raise InvalidRequest("give one of `content` and `prompt`", param="content")
    # Each has the default of the server whose name it is.
    text, special = body.content, bool(body.add_special)
    if text is None:
        text, special = body.prompt or "", body.add_special_tokens is not False
    tokens = state.host.tokenize(text, special=body.parse_special is not False, bos=special)
    found = Tokenized(tokens, len(tokens), state.info.max_sequence_length)
    if body.with_pieces:
        found.tokens = [_token(state, each) for each in tokens]
    if body.return_token_strs:
        found.token_strs = [state.host.piece(each).decode("utf-8", "replace") for each in tokens]
    return found


def _token(state: State, token: int) -> Token:
    piece = state.host.piece(token)
    try:
        return Token(token, piece.decode())
    except UnicodeDecodeError:
        return Token(token, list(piece))


def _detokenized(state: State, body: DetokenizeBody) -> Detokenized:
    state.check_known(body.tokens, "tokens")
    text = state.host.detokenize(body.tokens)
    return Detokenized(text, text)


def _applied(state: State, body: ChatBody) -> Applied:
    body = modern(body)
    return Applied(conversation(state, body, plan_of(body)).text)
