"""Requests as spans, by OpenTelemetry's own SDK."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from patience import PATIENCE
from serving import eventually, serving

from llmengine.config import Config, ServerConfig, TracingConfig
from llmengine.errors import ConfigError, ErrorInfo
from llmengine.server import tracing
from llmengine.server.app import create_app
from llmengine.server.tracing import Traces

CHAT = "/v1/chat/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Those that servers of this test make."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opened = lambda _, model: Traces(provider, model)  # noqa: E731
    monkeypatch.setattr("llmengine.server.state.open_traces", opened)
    return exporter


def ask(client: httpx.Client, *, stream: bool = False, **headers: str) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return client.post(CHAT, json=body, headers=headers)


def finished(spans: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    """The first request's, the whole of it last."""
    assert eventually(lambda: len(spans.get_finished_spans()) >= count)
    return list(spans.get_finished_spans()[:count])


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_its_phases_under_it(
    host: FakeHost, spans: InMemorySpanExporter, stream: bool
) -> None:
    with serving(host) as client:
        ask(client, stream=stream, **{"X-Request-Id": "r1"})
        *phases, whole = finished(spans, 5)
    assert [each.name for each in phases] == ["prepare", "queue", "prefill", "decode"]
    assert (whole.name, whole.kind, whole.parent) == (f"POST {CHAT}", SpanKind.SERVER, None)
    start = whole.start_time
    for phase in phases:
        assert phase.parent is not None
        assert phase.parent.span_id == whole.context.span_id
        assert phase.start_time == start
        start = phase.end_time
    spent = [each.end_time - each.start_time for each in phases[1:]]
    assert spent == [1_000_000, 2_000_000, 3_000_000]
    tokens = len(host.requests[0].prompt)
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "llmengine.request_id": "r1",
        "gen_ai.request.model": "fake",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 13,
        "llmengine.cached_tokens": tokens // 2,
    }
    assert whole.status.status_code is StatusCode.UNSET


def test_it_is_a_part_of_the_clients_trace(host: FakeHost, spans: InMemorySpanExporter) -> None:
    with serving(host) as client:
        ask(client, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=x")
        found = finished(spans, 5)
    assert {format(each.context.trace_id, "032x") for each in found} == {TRACE}
    parent = found[-1].parent
    assert parent is not None
    assert format(parent.span_id, "016x") == PARENT
    assert found[-1].context.trace_state["vendor"] == "x"


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "00-" + "é" * 9])
def test_a_wrong_header_begins_a_trace_of_its_own(
    host: FakeHost, spans: InMemorySpanExporter, header: str
) -> None:
    with serving(host) as client:
        assert ask(client, traceparent=header.encode()).status_code == 200  # type: ignore[arg-type]
        assert finished(spans, 5)[-1].parent is None


def test_what_the_client_does_not_want_recorded_is_not(
    host: FakeHost, spans: InMemorySpanExporter
) -> None:
    with serving(host) as client:
        ask(client, traceparent=f"00-{TRACE}-{PARENT}-00")
        ask(client)
        assert finished(spans, 5)[-1].parent is None
    assert len(spans.get_finished_spans()) == 5


def test_errors_are_named(host: FakeHost, spans: InMemorySpanExporter) -> None:
    host.failure = ErrorInfo("OutOfMemory", "no room")
    with serving(host) as client:
        assert client.post(CHAT, json={}).status_code == 400
        (refused,) = finished(spans, 1)
        spans.clear()
        assert ask(client).status_code == 507
        *_, failed = finished(spans, 5)
    assert refused.attributes is not None
    assert refused.attributes["error.type"] == "invalid_request"
    assert refused.status.status_code is StatusCode.UNSET
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "insufficient_resources"
    assert failed.status.status_code is StatusCode.ERROR


class Collector(HTTPServer):
    """Keeps the names of what it was sent."""

    def __init__(self) -> None:
        self.received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        super().__init__(("127.0.0.1", 0), _Receiver)


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            content = gzip.decompress(content)
        self.server.received.put((self.path, ExportTraceServiceRequest.FromString(content)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_collector_gets_them(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine,rack=7")
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/"
        settings = Config(
            tracing=TracingConfig(endpoint=endpoint), server=ServerConfig(drain_seconds=5)
        )
        with serving(host, settings) as client:
            ask(client)
        path, sent = collector.received.get(timeout=PATIENCE)  # at the end at the latest
        collector.shutdown()
        thread.join()
    assert path == "/v1/traces"
    (resource,) = sent.resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (attributes["service.name"], attributes["rack"]) == ("mine", "7")
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names == ["prepare", "queue", "prefill", "decode", f"POST {CHAT}"]


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = f"""
import sys
sys.path[:0] = [{os.path.dirname(__file__)!r}]
from fakes import FakeHost
from serving import serving
with FakeHost() as host, serving(host) as client:
    client.post("{CHAT}", json={{"messages": [{{"role": "user", "content": "hi"}}]}})
print(*(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == ("\n", "")


def test_what_cannot_be_traced_is_one_line_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'localhost:4318' is no URL like http"):
        create_app(Config(tracing=TracingConfig(endpoint="localhost:4318")))
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'llmengine\[otel\]'"):
        create_app(Config(tracing=TracingConfig(endpoint="http://localhost:4318")))
