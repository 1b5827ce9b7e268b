"""A request that the server makes to itself, with the handler of its endpoint and no socket."""

from __future__ import annotations

from typing import Any

from sanic import HTTPResponse, Request
from sanic.compat import Header

from llmengine.keys import Key
from llmengine.server import errors
from llmengine.server.limits import limits_of
from llmengine.server.record import record_of
from llmengine.server.state import State


async def answered(app: Any, state: State, key: Key, path: str, body: bytes) -> HTTPResponse:
    """What a client with `key` would get that posts `body`; it is logged and counted alike."""
    request: Request = Request(path.encode(), Header({}), "1.1", "POST", None, app)  # type: ignore[arg-type]
    request.body = body
    request.ctx.key = key
    route, handler, _ = app.router.get(path, "POST", None)
    request.route = route
    record = record_of(request)
    record.key = key.id
    try:
        limits_of(request).request(key)
        response: HTTPResponse = await handler(request)
    except Exception as error:
        response = errors.respond(request, error)
    response.headers["X-Request-Id"] = record.id
    state.journal.finish(record, response.status)
    return response
