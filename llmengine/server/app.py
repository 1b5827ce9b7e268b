"""The Sanic application: routes, settings, and what happens around every request."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config as SanicConfig
from sanic.exceptions import RequestTimeout

from llmengine.config import Config, ServerConfig
from llmengine.errors import ConfigError, UnsupportedEncoding
from llmengine.keys import ANONYMOUS
from llmengine.log import NAME as LOGGER
from llmengine.server import (
    batches,
    cache,
    chat,
    completions,
    embeddings,
    errors,
    files,
    fine_tuning,
    health,
    messages,
    messages_wire,
    models,
    openapi,
    rerank,
    responses,
    tokens,
    tracing,
)
from llmengine.server.lifecycle import Lifecycle, lifecycle_of
from llmengine.server.limits import Limits, limits_of
from llmengine.server.origins import Origins
from llmengine.server.record import record_of
from llmengine.server.security import OPEN, Guard

NAME = "llmengine"
BODY_SECONDS = 300.0  # in which a body has to come
MAX_UNKNOWN = 16  # parameters that are told: clients and proxies bound the headers they take
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing (RFC 9110, 9.2.1)
NEVER = 365 * 86_400  # seconds; Sanic has no word for it

FAMILIES = (
    batches,
    cache,
    chat,
    completions,
    embeddings,
    files,
    fine_tuning,
    health,
    messages,
    models,
    openapi,
    rerank,
    responses,
    tokens,
)

# Answers are data: nothing in them is to be guessed at, kept, framed or run.
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

App = Sanic[SanicConfig, SimpleNamespace]


class AnyRequest(Request):
    """Also what was no request has an answer."""

    def __init__(self, **parts: Any) -> None:
        # Sanic makes one like this to refuse what it could not read, and trips over the same URL.
        url = {"url_bytes": b"*"} if parts["method"] == "NONE" else {}
        super().__init__(**{**parts, **url})


def create_app(config: Config) -> App:
    """The application. Raises ConfigError for settings it cannot serve with.

    Run it by `llmengine.server.run`, which gives it the model, in one process: another would need
    a model of its own.
    """
    Sanic._app_registry.pop(NAME, None)  # Sanic keeps every application for ever, by its name
    app: App = Sanic(NAME, configure_logging=False, request_class=AnyRequest)
    app.config.update(_sanic_settings(config.server))
    _quieten()
    tracing.check(config.tracing)
    app.ctx.lifecycle = Lifecycle(config)
    app.ctx.guard = Guard(config)
    app.ctx.limits = Limits(config, app.ctx.guard.keyring)
    app.ctx.origins = Origins(config.server)
    for family in FAMILIES:
        app.blueprint(family.blueprint.copy(family.blueprint.name))
    if config.metrics.enabled:
        if (taken := config.metrics.endpoint) in OPEN or taken.startswith("/v1/"):
            raise ConfigError(f"metrics.endpoint: {taken} is an endpoint already")
        app.add_route(health.metrics, config.metrics.endpoint, name="metrics")
    # Before the body is read: strangers fill no memory.
    app.signal("http.routing.after")(_routed)
    app.on_request(_before)
    app.on_response(_after)  # type: ignore[no-untyped-call]
    app.exception(Exception)(errors.respond)
    app.error_handler.add(asyncio.CancelledError, errors.gone)
    return app


def _sanic_settings(config: ServerConfig) -> dict[str, Any]:
    return {
        "ACCESS_LOG": False,
        "AUTO_EXTEND": False,
        "KEEP_ALIVE_TIMEOUT": 75,
        "MOTD": False,
        "REQUEST_MAX_SIZE": config.max_body_mb << 20,
        "REQUEST_TIMEOUT": 60,
        "RESPONSE_TIMEOUT": response_seconds(config),
    }


def response_seconds(config: ServerConfig) -> float:
    """After what Sanic answers 503, 60 s by its default: the engine's deadline comes first."""
    seconds = config.request_timeout_seconds
    return seconds + 60 if seconds else NEVER


def _quieten() -> None:
    """Send Sanic's warnings to our log and drop its chatter."""
    for name in ("sanic.root", "sanic.error", "sanic.server", "sanic.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.parent = logging.getLogger(LOGGER)
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    logging.getLogger("sanic.error").addFilter(_matters)


def _matters(record: logging.LogRecord) -> bool:
    # A client that sends a body along with a GET is no error of the server's.
    return "body not consumed" not in str(record.msg)


async def _before(request: Request) -> HTTPResponse | None:
    # Sanic stops reading while a large body waits in its buffer. Then nobody would see the
    # client going away.
    transport: Any = request.transport
    transport.resume_reading()
    preflight = _origins(request).preflight(request)
    if preflight is None and request.route is None:
        _let_in(request)  # what leads nowhere is not told to strangers either
    return preflight


async def _routed(request: Request, route: Any, **_: Any) -> None:
    _let_in(request)
    stream: Any = request.stream
    if stream.request_body and not route.extra.ignore_body:
        _check_encoding(request)
        try:  # Sanic would wait for ever
            await asyncio.wait_for(
                request.receive_body(),  # type: ignore[no-untyped-call]
                BODY_SECONDS,
            )
        except asyncio.TimeoutError:
            raise RequestTimeout(f"the body did not come within {BODY_SECONDS:g} s") from None


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedEncoding(
            f"`Content-Encoding: {encoding[:50]}` is not read here: send the body as it is"
        )


def _let_in(request: Request) -> None:
    guard: Guard = request.app.ctx.guard
    key = request.ctx.key = guard.let_in(request)
    if key is ANONYMOUS and request.method not in SAFE_METHODS:  # pages of others have no key
        _origins(request).check(request)
    if request.method == "POST":
        limits_of(request).request(key)


async def _after(request: Request, response: HTTPResponse) -> None:
    record = record_of(request)
    response.headers["X-Request-Id"] = record.id
    if request.path.startswith(messages_wire.PATH):  # where Anthropic's clients look for it
        response.headers["Request-Id"] = record.id
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.update(_origins(request).headers(request))
    key = getattr(request.ctx, "key", ANONYMOUS)  # none where it was refused
    response.headers.update(limits_of(request).headers(key))
    if record.unknown:
        told = record.unknown[:MAX_UNKNOWN]
        response.headers["X-Unknown-Parameters"] = ", ".join(map(_header, told))
    state = lifecycle_of(request).state
    if state and not record.streamed:
        state.journal.finish(record, response.status)


def _origins(request: Request) -> Origins:
    origins: Origins = request.app.ctx.origins
    return origins


def _header(name: str) -> str:
    """A client's own word, fit for a header."""
    return name[:64].encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS = dict.fromkeys((*range(32), 127), "?")
