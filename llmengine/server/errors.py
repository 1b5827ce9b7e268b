"""Errors as OpenAI's clients expect them, whatever raised them."""

from __future__ import annotations

import logging
import math

from sanic import HTTPResponse, Request
from sanic import exceptions as sanic_errors
from sanic.response import empty

from llmengine import errors
from llmengine.errors import EngineError
from llmengine.log import printable
from llmengine.server import wire
from llmengine.server.folder import full
from llmengine.server.messages_wire import PATH, MessagesErrorBody, messages_error
from llmengine.server.record import CLIENT_CLOSED, record_of

MAX_MESSAGE = 1000  # characters

_logger = logging.getLogger("llmengine.server")


def respond(request: Request, exception: Exception) -> HTTPResponse:
    """The response to a request that ended with `exception`."""
    error, status = known(request, exception)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(exception, sanic_errors.SanicException) and "Allow" in exception.headers:
        headers["Allow"] = exception.headers["Allow"]
    body = wire.encode(_body(request, shape(request, exception, error), status))
    return HTTPResponse(body, status, headers, "application/json")


def _body(request: Request, error: wire.Error, status: int) -> wire.ErrorBody | MessagesErrorBody:
    if request.path.startswith(PATH):  # Anthropic's clients expect its own shape
        return messages_error(error, status, record_of(request).id)
    return wire.ErrorBody(error)


def gone(_: Request, __: BaseException) -> HTTPResponse:
    """For a client that went away: nobody reads it."""
    return empty(CLIENT_CLOSED)


def shape(request: Request, exception: Exception, error: EngineError) -> wire.Error:
    """What a client is told of `error`, which `exception` is known as."""
    message, record = error.message, record_of(request)
    record.error = error
    if isinstance(error, errors.Internal):
        _logger.error(
            "%s %s failed: %s",
            record.method,
            record.endpoint,
            error.message or "unexpected",
            exc_info=exception,
            extra=record.fields,
        )
        message = f"internal error; the server's log has the reason under {record.id}"
    param = None if error.param is None else _short(error.param)
    return wire.Error(_short(message), error.type, param, error.code)


def _short(text: str) -> str:
    """One line of Unicode, whatever names of the client's are in it."""
    valid = text[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()
    return printable(valid)[:MAX_MESSAGE]


def known(request: Request, exception: Exception) -> tuple[EngineError, int]:
    """The exception as one of ours, with its HTTP status."""
    if isinstance(exception, EngineError):
        return exception, exception.status
    if full(exception):
        told = "the server's disk is full: nothing is kept until there is room"
        return errors.OutOfMemory(told), errors.OutOfMemory.status
    if not isinstance(exception, sanic_errors.SanicException):
        return errors.Internal(""), 500
    status = exception.status_code or 500
    error = _of_status(request, status, str(exception))
    if error is not None:
        return error, error.status
    if status < 500:
        return errors.InvalidRequest(str(exception)), status
    return errors.Internal(str(exception)), 500


def _of_status(request: Request, status: int, message: str) -> EngineError | None:
    if status == 404:
        return errors.NotFound(f"no such endpoint: {request.method} {request.path}")
    if status == 405:
        return errors.MethodNotAllowed(f"{request.path} does not take {request.method}")
    if status == 413 and "header" in message:
        return errors.HeadersTooLarge(
            f"the headers are too large: together they may have "
            f"{request.app.config.REQUEST_MAX_HEADER_SIZE} bytes"
        )
    if status == 413:
        limit = request.app.config.REQUEST_MAX_SIZE >> 20
        return errors.PayloadTooLarge(
            f"the request is too large: its body may have {limit} MiB (server.max_body_mb)"
        )
    if status == 503:
        return errors.DeadlineExceeded("the response took too long")
    return None
