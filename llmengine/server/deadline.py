"""When an answer must be there."""

from __future__ import annotations

import re
import time

from sanic import Request

from llmengine.errors import InvalidRequest
from llmengine.server.record import record_of
from llmengine.server.state import state_of

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def deadline(request: Request, timeout: float | None) -> float | None:
    """The soonest of what body, header and settings say, in seconds of time.monotonic().

    Each counts from the arrival of the request.
    """
    usual = state_of(request).config.server.request_timeout_seconds
    given = [each for each in (timeout, _of_header(request), usual or None) if each is not None]
    return time.monotonic() + min(given) - record_of(request).seconds if given else None


def _of_header(request: Request) -> float | None:
    text = request.headers.get("x-request-timeout")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not float(text):
        raise InvalidRequest("the header X-Request-Timeout: a number of seconds is expected")
    return float(text)
