"""POST /v1/embeddings"""

from __future__ import annotations

import asyncio
import base64
import math
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from llmengine import core
from llmengine.chat import prompt
from llmengine.errors import DeadlineExceeded, InvalidRequest
from llmengine.server import parameters, wire
from llmengine.server.bodies import Count, Seconds, Texts, decode, texts
from llmengine.server.deadline import deadline
from llmengine.server.limits import limits_of
from llmengine.server.record import CLIENT_CLOSED, record_of
from llmengine.server.state import State, state_of

MAX_INPUTS = 2048
MAX_TOKENS = 300_000  # of all inputs of a request: OpenAI's bound as well

blueprint = Blueprint("embeddings")

Inputs = list[tuple[int, ...]]
Vector = tuple[float, ...]


class EmbeddingsBody(Struct, frozen=True, kw_only=True):
    """https://platform.openai.com/docs/api-reference/embeddings/create"""

    input: Texts
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    timeout: Seconds | None = None


class Usage(Struct):
    prompt_tokens: int
    total_tokens: int


class Embedding(Struct, kw_only=True):
    object: str = "embedding"
    index: int
    embedding: msgspec.Raw


class Embeddings(Struct, kw_only=True):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: Usage


@blueprint.post("/v1/embeddings")
async def embeddings(request: Request) -> HTTPResponse:
    state = state_of(request)
    body, inputs, unknown = await state.in_worker(_prepare, state, request.body)
    record_of(request).unknown = unknown
    vectors = await computed(request, inputs, body.timeout)
    answer = await state.in_worker(_answer, state, body, vectors, used(request))
    return HTTPResponse(answer, content_type="application/json")


def _prepare(state: State, content: bytes) -> tuple[EmbeddingsBody, Inputs, list[str]]:
    body, fields = decode(content, EmbeddingsBody)
    unknown = parameters.unknown(body, fields, strict=state.config.server.strict_parameters)
    state.check_model(body.model)
    if state.info.ranks:
        raise InvalidRequest(
            f"{state.model} ranks documents and has no embeddings: use /v1/rerank",
            param="model",
            code="unsupported_model",
        )
    size = state.info.embedding_size
    if body.dimensions and body.dimensions > size:
        raise InvalidRequest(
            f"`dimensions`: the embeddings of {state.model} have {size}", param="dimensions"
        )
    given = texts(body.input, "input")
    check_count(len(given), "input")
    return body, bounded((_tokens(state, each) for each in given), "input"), unknown


def _tokens(state: State, given: str | list[int]) -> tuple[int, ...]:
    if isinstance(given, str):
        if not given:
            raise InvalidRequest("`input` has an empty text", param="input")
        return state.check_tokens(prompt.of_input(state.host, given), "input")
    state.check_known(given, "input")
    return tuple(given)


def check_count(count: int, param: str) -> None:
    if count > MAX_INPUTS:
        raise InvalidRequest(f"`{param}` has {count} items, {MAX_INPUTS} are allowed", param=param)


def bounded(inputs: Iterable[tuple[int, ...]], param: str) -> Inputs:
    """All of `inputs`, which are no longer made once they are too many tokens."""
    found: Inputs = []
    total = 0
    for each in inputs:
        total += len(each)
        if total > MAX_TOKENS:
            raise InvalidRequest(
                f"`{param}` has more than {MAX_TOKENS} tokens in all: send it in parts", param=param
            )
        found.append(each)
    return found


async def computed(
    request: Request, inputs: Sequence[tuple[int, ...]], timeout: float | None
) -> list[bytes]:
    """The embeddings of `inputs`; they are given up when the client goes away."""
    state, record = state_of(request), record_of(request)
    record.usage = core.Usage(sum(map(len, inputs)), 0)
    await state.journal.prompts(record, inputs)
    end = deadline(request, timeout)
    try:
        with limits_of(request).running(request.ctx.key, 1, record.usage.prompt_tokens):
            future = asyncio.wrap_future(state.host.embed(inputs))
            record.submitted()
            found = await asyncio.wait_for(future, end and end - time.monotonic())
    except asyncio.TimeoutError:
        raise DeadlineExceeded("the request's deadline has passed") from None
    except asyncio.CancelledError:
        state.journal.finish(record, CLIENT_CLOSED)
        raise
    return found


def values(vector: bytes) -> Vector:
    """The numbers of an embedding."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def used(request: Request) -> Usage:
    usage = record_of(request).usage
    tokens = usage.prompt_tokens if usage else 0
    return Usage(tokens, tokens)


def _answer(state: State, body: EmbeddingsBody, vectors: list[bytes], usage: Usage) -> bytes:
    # One by one: encoding all at once would hold the other threads up.
    data = [
        Embedding(index=index, embedding=msgspec.Raw(_encoded(each, body)))
        for index, each in enumerate(vectors)
    ]
    return wire.encode(Embeddings(data=data, model=state.model, usage=usage))


def _encoded(vector: bytes, body: EmbeddingsBody) -> bytes:
    if body.dimensions and body.dimensions * 4 < len(vector):
        vector = _shortened(values(vector)[: body.dimensions])
    if body.encoding_format == "base64":
        return b'"' + base64.b64encode(vector) + b'"'
    return wire.encode(values(vector))


def _shortened(first: Vector) -> bytes:
    """Of length 1 again, as models are made for that are trained to keep the most in the first."""
    norm = math.hypot(*first) or 1.0
    return struct.pack(f"<{len(first)}f", *(each / norm for each in first))
