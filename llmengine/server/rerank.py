"""POST /v1/rerank: documents in the order in which they answer a query, in Jina's shape."""

from __future__ import annotations

import math
import operator
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from sanic import Blueprint, HTTPResponse, Request

from llmengine.chat import prompt
from llmengine.server import parameters, wire
from llmengine.server.bodies import Count, Seconds, decode
from llmengine.server.embeddings import (
    Inputs,
    Usage,
    Vector,
    bounded,
    check_count,
    computed,
    used,
    values,
)
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of

blueprint = Blueprint("rerank")


class Document(Struct):
    text: str


class RerankBody(Struct, frozen=True, kw_only=True):
    """https://api.jina.ai/redoc#tag/rerank"""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1)]
    model: str | None = None
    top_n: Count | None = None
    return_documents: bool | None = None
    timeout: Seconds | None = None

    @property
    def texts(self) -> list[str]:
        return [each if isinstance(each, str) else each.text for each in self.documents]


class Result(Struct):
    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class Reranked(Struct, kw_only=True):
    model: str
    object: str = "list"
    usage: Usage
    results: list[Result]


async def rerank(request: Request) -> HTTPResponse:
    state = state_of(request)
    body, inputs, unknown = await state.in_worker(_prepare, state, request.body)
    record_of(request).unknown = unknown
    vectors = [values(each) for each in await computed(request, inputs, body.timeout)]
    scores = _ranks(vectors) if state.info.ranks else _similarities(vectors)
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    texts = body.texts
    results = [
        Result(index, scores[index], Document(texts[index]) if body.return_documents else UNSET)
        for index in best
    ]
    found = Reranked(model=state.model, usage=used(request), results=results)
    return HTTPResponse(wire.encode(found), content_type="application/json")


for _path in ("/v1/rerank", "/rerank"):
    blueprint.add_route(rerank, _path, methods=["POST"], name=_path.strip("/").replace("/", "_"))


def _prepare(state: State, content: bytes) -> tuple[RerankBody, Inputs, list[str]]:
    body, fields = decode(content, RerankBody)
    unknown = parameters.unknown(body, fields, strict=state.config.server.strict_parameters)
    state.check_model(body.model)
    check_count(len(body.documents), "documents")
    host = state.host
    if state.info.ranks:
        pairs = (prompt.of_pair(host, body.query, each) for each in body.texts)
        return body, bounded(pairs, "documents"), unknown
    query = state.check_tokens(prompt.of_input(host, body.query, "query"), "query")
    documents = (
        state.check_tokens(prompt.of_input(host, each, "documents"), "documents")
        for each in body.texts
    )
    return body, [query, *bounded(documents, "documents")], unknown


def _ranks(vectors: list[Vector]) -> list[float]:
    """What a ranking model says, brought to 0..1 where it is a single number of any size."""
    firsts = [(each[0], len(each) == 1) for each in vectors]
    # The logistic function, by a tanh that no score overflows.
    return [(1 + math.tanh(score / 2)) / 2 if single else score for score, single in firsts]


def _similarities(vectors: list[Vector]) -> list[float]:
    """The cosines of an embedding model, -1..1."""
    query, *documents = vectors
    return [sum(map(operator.mul, query, each)) for each in documents]
