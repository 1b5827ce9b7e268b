"""GET /v1/models, and the older names of it."""

from __future__ import annotations

from urllib.parse import quote, unquote

from sanic import Blueprint, HTTPResponse, Request

from llmengine.server import wire
from llmengine.server.state import State, state_of

blueprint = Blueprint("models")


async def models(request: Request) -> HTTPResponse:
    found = wire.ModelList(data=[_model(state_of(request))])
    return HTTPResponse(wire.encode(found), content_type="application/json")


blueprint.add_route(models, "/v1/models", methods=["GET", "HEAD"])


@blueprint.get("/v1/models/<name:path>")
async def model(request: Request, name: str) -> HTTPResponse:
    if not name:  # a slash and nothing behind it
        return await models(request)
    state = state_of(request)
    state.check_model(unquote(name))
    return HTTPResponse(wire.encode(_model(state)), content_type="application/json")


@blueprint.get("/v1/engines")
async def engines(_: Request) -> HTTPResponse:
    return _moved("/v1/models")


@blueprint.get("/v1/engines/<name:path>")
async def engine(_: Request, name: str) -> HTTPResponse:
    return _moved(f"/v1/models/{quote(unquote(name), safe='')}")


def _moved(location: str) -> HTTPResponse:
    # RFC 9745: the endpoint was replaced by /v1/models before this project began.
    headers = {"Location": location, "Deprecation": "@1704067200"}
    return HTTPResponse(f"see {location}\n", 308, headers, "text/plain; charset=utf-8")


def _model(state: State) -> wire.Model:
    info = state.info
    return wire.Model(
        id=state.model,
        created=info.created,
        description=info.description,
        context_length=info.context_length,
        max_sequence_length=info.max_sequence_length,
        parameters=info.parameters,
        size_bytes=info.size_bytes,
    )
