"""GET /openapi.json and /docs: every endpoint, described by the types that the code reads."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from llmengine import __version__
from llmengine.inventory import CacheStats, EntryDetail, Warmed
from llmengine.server import (
    batches_wire,
    bodies,
    docs_page,
    embeddings,
    messages_body,
    messages_wire,
    rerank,
    responses_body,
    responses_wire,
    tokens,
    wire,
)

blueprint = Blueprint("openapi")


class Operation(Struct, frozen=True):
    """One method of one path; `events` is what a stream's events hold."""

    method: str
    path: str
    tag: str
    summary: str
    body: type[Struct] | None = None
    answer: type[Struct] | None = None
    events: Any = None
    error: type[Struct] = wire.ErrorBody
    query: tuple[str, ...] = ()
    status: int = 200
    form: type[Struct] | None = None  # of a body that is a form
    media: str = ""  # of an answer that is no JSON

    @property
    def id(self) -> str:
        return "_".join([self.method, *re.findall(r"[a-z0-9]+", self.path)])

    @property
    def types(self) -> list[Any]:
        members = (self.body, self.form, self.answer, self.events, self.error)
        return [each for each in members if each]


OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "chat", "Answer a conversation.",
        bodies.ChatBody, wire.ChatCompletion, wire.ChatChunk,
    ),
    Operation(
        "post", "/v1/completions", "completions", "Continue texts.",
        bodies.CompletionBody, wire.Completion, wire.Completion,
    ),
    Operation(
        "post", "/v1/responses", "responses", "Answer items, or go on from an earlier answer.",
        responses_body.ResponsesBody, responses_wire.Response, responses_wire.StreamEvent,
    ),
    Operation(
        "post", "/v1/responses/input_tokens", "responses", "The tokens of what would be answered.",
        responses_body.ResponsesBody, responses_wire.InputTokenCount,
    ),
    Operation(
        "get", "/v1/responses/{id}", "responses", "A stored answer.",
        answer=responses_wire.Response,
    ),
    Operation(
        "delete", "/v1/responses/{id}", "responses", "Forget one.",
        answer=responses_wire.ResponseDeleted,
    ),
    Operation(
        "get", "/v1/responses/{id}/input_items", "responses", "What the model got for it.",
        answer=responses_wire.ItemList, query=("limit", "order", "after"),
    ),
    Operation(
        "post", "/v1/responses/{id}/cancel", "responses", "End one that is being made.",
        answer=responses_wire.Response,
    ),
    Operation(
        "post", "/v1/messages", "messages", "Answer a conversation, as Anthropic's API does.",
        messages_body.MessagesBody, messages_wire.AnsweredMessage, messages_wire.StreamEvent,
        error=messages_wire.MessagesErrorBody,
    ),
    Operation(
        "post", "/v1/messages/count_tokens", "messages", "The tokens of a conversation.",
        messages_body.CountBody, messages_wire.InputTokens,
        error=messages_wire.MessagesErrorBody,
    ),
    Operation(
        "post", "/v1/embeddings", "embeddings", "Vectors of texts.",
        embeddings.EmbeddingsBody, embeddings.Embeddings,
    ),
    Operation(
        "post", "/v1/rerank", "embeddings", "Order documents by how they answer a query.",
        rerank.RerankBody, rerank.Reranked,
    ),
    Operation(
        "post", "/rerank", "embeddings", "The same as /v1/rerank.",
        rerank.RerankBody, rerank.Reranked,
    ),
    Operation(
        "post", "/v1/files", "batches", "Upload a file of requests.",
        answer=batches_wire.FileObject, form=batches_wire.FileForm,
    ),
    Operation(
        "get", "/v1/files", "batches", "All files.",
        answer=batches_wire.FileList, query=("purpose", "limit", "order", "after"),
    ),
    Operation("get", "/v1/files/{id}", "batches", "One file.", answer=batches_wire.FileObject),
    Operation(
        "delete", "/v1/files/{id}", "batches", "Delete it.", answer=batches_wire.FileDeleted
    ),
    Operation(
        "get", "/v1/files/{id}/content", "batches", "What is in it.",
        media="application/octet-stream",
    ),
    Operation(
        "post", "/v1/batches", "batches", "Have the requests of a file answered.",
        batches_wire.BatchBody, batches_wire.Batch,
    ),
    Operation(
        "get", "/v1/batches", "batches", "All batches.",
        answer=batches_wire.BatchList, query=("limit", "order", "after"),
    ),
    Operation("get", "/v1/batches/{id}", "batches", "One batch.", answer=batches_wire.Batch),
    Operation(
        "post", "/v1/batches/{id}/cancel", "batches", "Answer no more of it.",
        answer=batches_wire.Batch,
    ),
    Operation("get", "/v1/models", "models", "The model that is served.", answer=wire.ModelList),
    Operation("get", "/v1/models/{name}", "models", "One model by its name.", answer=wire.Model),
    Operation("get", "/v1/engines", "models", "Moved to /v1/models.", status=308),
    Operation("get", "/v1/engines/{name}", "models", "Moved to /v1/models/{name}.", status=308),
    Operation(
        "post", "/tokenize", "tokens", "The token ids of a text.",
        tokens.TokenizeBody, tokens.Tokenized,
    ),
    Operation(
        "post", "/detokenize", "tokens", "The text of token ids.",
        tokens.DetokenizeBody, tokens.Detokenized,
    ),
    Operation(
        "post", "/apply-template", "tokens", "The prompt that a conversation becomes.",
        bodies.ChatBody, tokens.Applied,
    ),
    Operation("get", "/v1/cache", "cache", "What the tiers hold and do.", answer=CacheStats),
    Operation("get", "/v1/cache/entries", "cache", "All entries.", answer=wire.CacheEntries),
    Operation("delete", "/v1/cache/entries", "cache", "Drop all.", answer=wire.Cleared),
    Operation("get", "/v1/cache/entries/{id}", "cache", "One entry.", answer=EntryDetail),
    Operation("delete", "/v1/cache/entries/{id}", "cache", "Drop one.", answer=wire.Deleted),
    Operation("post", "/v1/cache/entries/{id}/pin", "cache", "Keep one.", answer=wire.Pinned),
    Operation("post", "/v1/cache/entries/{id}/unpin", "cache", "Release it.", answer=wire.Pinned),
    Operation("post", "/v1/cache/verify", "cache", "Check all on disk.", answer=wire.Verified),
    Operation(
        "post", "/v1/cache/warm", "cache", "Compute a prompt ahead and keep it.",
        bodies.WarmBody, Warmed,
    ),
    Operation("get", "/health", "server", "How the server does.", answer=wire.Health),
    Operation("get", "/health/live", "server", "Whether it lives.", answer=wire.Probe),
    Operation("get", "/health/ready", "server", "Whether it takes requests.", answer=wire.Probe),
)  # fmt: skip


@blueprint.get("/openapi.json")
async def openapi(_: Request) -> HTTPResponse:
    return HTTPResponse(_encoded(), content_type="application/json")


@blueprint.get("/docs")
async def docs(_: Request) -> HTTPResponse:
    headers = {"Content-Security-Policy": docs_page.POLICY}
    page = docs_page.html(document())
    return HTTPResponse(page, headers=headers, content_type="text/html; charset=utf-8")


@functools.cache
def _encoded() -> bytes:
    return msgspec.json.encode(document())


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0)."""
    types = list(dict.fromkeys(kind for each in OPERATIONS for kind in each.types))
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(types, found, strict=True))
    paths: dict[str, Any] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmengine",
            "version": __version__,
            "description": "GGUF models behind OpenAI's API.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {
            str(operation.status): _answer(operation, schemas),
            "4XX": _json("A refusal that names the parameter.", schemas[operation.error]),
            "5XX": _json("What the server could not do.", schemas[operation.error]),
        },
    }
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names or operation.query:
        found["parameters"] = [*_parameters(names, "path"), *_parameters(operation.query, "query")]
    if operation.body:
        content = {"application/json": {"schema": schemas[operation.body]}}
        found["requestBody"] = {"required": True, "content": content}
    if operation.form:
        content = {"multipart/form-data": {"schema": schemas[operation.form]}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answer(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    if operation.media:
        return {"description": operation.summary, "content": {operation.media: {}}}
    if not operation.answer:
        return {"description": operation.summary}
    found = _json("The answer.", schemas[operation.answer])
    if operation.events:
        events = {
            "contentMediaType": "application/json",
            "contentSchema": schemas[operation.events],
        }
        data = {"type": "string", "anyOf": [events, {"const": "[DONE]"}]}
        schema = {
            "type": "object",
            "description": "Each of the events that are sent if `stream` is true.",
            "properties": {"event": {"type": "string"}, "data": data},
        }
        found["content"]["text/event-stream"] = {"schema": schema}
    return found


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameters(names: Sequence[str], place: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for name in names
    ]
