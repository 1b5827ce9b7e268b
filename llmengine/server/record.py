"""What is known of one HTTP request: for its log line and for the metrics, never its words."""

from __future__ import annotations

import logging
import re
import secrets
import time

from sanic import Request

from llmengine.core import Output, Usage
from llmengine.log import printable
from llmengine.metrics import Metrics

CLIENT_CLOSED = 499  # as nginx counts clients that went away

_logger = logging.getLogger("llmengine.server")
_ID = re.compile(r"[!-~]{1,128}")


class Record:
    def __init__(self, request_id: str, endpoint: str) -> None:
        self.id = request_id
        self.endpoint = endpoint
        self.unknown: list[str] = []  # parameters that mean nothing here
        self.streamed = False  # whether the answer ends after its headers
        self.usage: Usage | None = None
        self._started = time.perf_counter()
        self._first: float | None = None
        self._last: dict[int, float] = {}  # when each choice's latest token came
        self._finished = False

    def output(self, index: int, output: Output, metrics: Metrics) -> None:
        now = time.perf_counter()
        if output.tokens:
            if self._first is None:
                self._first = now - self._started
                metrics.first_token(self._first)
            elif index in self._last:
                metrics.later_tokens(now - self._last[index], output.tokens)
            self._last[index] = now
        if output.timings is not None:
            spent = output.timings
            metrics.phases(spent.queued, spent.prefill, spent.decode)

    def finish(self, status: int, metrics: Metrics, *, log: bool) -> None:
        """Count and log the request; only the first call does."""
        if self._finished:
            return
        self._finished = True
        seconds = time.perf_counter() - self._started
        metrics.request(self.endpoint, status, seconds)
        if self.unknown:
            _logger.warning(
                "unknown parameters: %s",
                printable(", ".join(self.unknown))[:500],
                extra={"request": self.id},
            )
        if log:
            polled = self.usage is None and status < 400
            _logger.log(
                logging.DEBUG if polled else logging.INFO,
                "%s %d",
                self.endpoint,
                status,
                extra=self._fields(seconds),
            )

    def _fields(self, seconds: float) -> dict[str, str | int | float]:
        fields: dict[str, str | int | float] = {"request": self.id}
        if self.usage is not None:
            fields["prompt_tokens"] = self.usage.prompt_tokens
            fields["completion_tokens"] = self.usage.completion_tokens
            fields["cached_tokens"] = self.usage.cached_tokens
        if self._first is not None:
            fields["ttft"] = round(self._first, 4)
        return {**fields, "seconds": round(seconds, 4)}


def record_of(request: Request) -> Record:
    """The record of `request`, made when it is first asked for."""
    record: Record | None = getattr(request.ctx, "record", None)
    if record is None:
        given = request.headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        # The route's pattern and not the path, which clients choose.
        route = request.route
        record = request.ctx.record = Record(request_id, f"/{route.path}" if route else "other")
    return record
