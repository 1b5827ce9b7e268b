"""What is known of one HTTP request while it is answered; never its words."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

from sanic import Request

from llmengine.core import Output, Timings, Usage
from llmengine.errors import EngineError
from llmengine.metrics import Metrics

CLIENT_CLOSED = 499  # as nginx counts clients that went away
TRACE_HEADERS = ("traceparent", "tracestate")

_ID = re.compile(r"[!-~]{1,128}")

Field = str | int | float


class Record:
    def __init__(
        self, request_id: str, method: str, endpoint: str, trace: Mapping[str, str]
    ) -> None:
        """`trace` has the headers of the trace that it is a part of, if it is of any."""
        self.id = request_id
        self.method = method
        self.endpoint = endpoint
        self.trace = trace
        self.key = ""  # the id of the API key
        self.unknown: list[str] = []  # parameters that mean nothing here
        self.streamed = False  # whether the answer ends after its headers
        self.usage: Usage | None = None
        self.error: EngineError | None = None  # what it is refused with or failed by
        self.arrived = time.time_ns()  # since the epoch
        self.prepared: float | None = None  # seconds until the engine had it
        self.timings: Timings | None = None  # of the answer that ended last
        self.finished = False
        self._started = time.perf_counter()
        self._first: float | None = None
        self._last: dict[int, float] = {}  # when each choice's latest token came

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self._started

    def submitted(self) -> None:
        """Note that the engine has it now."""
        self.prepared = self.seconds

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
            self.timings = spent = output.timings
            metrics.phases(spent.queued, spent.prefill, spent.decode)

    @property
    def phases(self) -> dict[str, float]:
        """Seconds from the arrival on, in this order, as far as the request came.

        What is left to the whole is what the answer took on its way, as to a slow client.
        """
        found = {} if self.prepared is None else {"prepare": self.prepared}
        if self.timings is not None:
            spent = self.timings
            found |= {"queue": spent.queued, "prefill": spent.prefill, "decode": spent.decode}
        return found

    @property
    def fields(self) -> dict[str, Field]:
        """For lines of the log."""
        fields: dict[str, Field] = {"request": self.id}
        if self.key:
            fields["key"] = self.key
        if self.error is not None:
            fields["error"] = self.error.code
            if self.error.param is not None:
                fields["param"] = self.error.param[:100]
        if self.usage is not None:
            fields["prompt_tokens"] = self.usage.prompt_tokens
            fields["completion_tokens"] = self.usage.completion_tokens
            fields["cached_tokens"] = self.usage.cached_tokens
        if self._first is not None:
            fields["ttft"] = round(self._first, 4)
        fields |= {name: round(seconds, 4) for name, seconds in self.phases.items()}
        return {**fields, "seconds": round(self.seconds, 4)}


def record_of(request: Request) -> Record:
    """The record of `request`, made when it is first asked for."""
    record: Record | None = getattr(request.ctx, "record", None)
    if record is None:
        given = request.headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        # The route's pattern and not the path, which clients choose.
        route = request.route
        endpoint = f"/{route.path}" if route else "other"
        headers = request.headers
        trace = {name: headers[name] for name in TRACE_HEADERS if name in headers}
        record = request.ctx.record = Record(request_id, request.method, endpoint, trace)
    return record
