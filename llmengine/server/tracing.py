"""Requests as spans for OpenTelemetry, which is imported only where traces are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llmengine import __version__
from llmengine.config import TracingConfig
from llmengine.errors import ConfigError
from llmengine.server.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

SECOND = 1_000_000_000  # nanoseconds
FLUSH_SECONDS = 3  # for what is left at the end; a collector that is gone gets no more


def check(config: TracingConfig) -> None:
    """Raises ConfigError where traces are asked for that cannot be made."""
    if not config.endpoint:
        return
    if not config.endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"tracing.endpoint: {config.endpoint!r} is no URL like http://127.0.0.1:4318"
        )
    needed = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    try:
        missing = any(find_spec(each) is None for each in needed)
    except ModuleNotFoundError:  # of a package above
        missing = True
    if missing:
        raise ConfigError(
            "tracing.endpoint needs OpenTelemetry, which is not installed: "
            "pip install 'llmengine[otel]'"
        )


def open_traces(config: TracingConfig, model: str) -> Traces | None:
    """Those that go to the collector of the settings; None where there is none."""
    if not config.endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource.create({"service.name": "llmengine", "service.version": __version__})
    resource = own.merge(OTELResourceDetector().detect())  # what the environment says goes first
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{config.endpoint.rstrip('/')}/v1/traces", timeout=FLUSH_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traces(provider, model)


class Traces:
    """A span for each request, and under it one for each of its phases, made when it has ended."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("llmengine", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._model = model

    def write(self, record: Record, status: int, seconds: float) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        whole = self._tracer.start_span(
            f"{record.method} {record.endpoint}",
            context=self._propagator.extract(record.trace),
            kind=SpanKind.SERVER,
            attributes=self._attributes(record, status),
            start_time=record.arrived,
        )
        if status >= 500:
            whole.set_status(StatusCode.ERROR)
        under, start = set_span_in_context(whole), record.arrived
        for name, spent in record.phases.items():
            end = start + int(spent * SECOND)
            self._tracer.start_span(name, context=under, start_time=start).end(end)
            start = end
        whole.end(record.arrived + int(seconds * SECOND))

    def _attributes(self, record: Record, status: int) -> Mapping[str, AttributeValue]:
        """By the names of https://opentelemetry.io/docs/specs/semconv/ where those have one."""
        found: dict[str, AttributeValue] = {
            "http.request.method": record.method,
            "http.route": record.endpoint,
            "http.response.status_code": status,
            "llmengine.request_id": record.id,
        }
        if record.error is not None:
            found["error.type"] = record.error.code
        if record.usage is not None:
            found["gen_ai.request.model"] = self._model
            found["gen_ai.usage.input_tokens"] = record.usage.prompt_tokens
            found["gen_ai.usage.output_tokens"] = record.usage.completion_tokens
            found["llmengine.cached_tokens"] = record.usage.cached_tokens
        return found

    def close(self) -> None:
        """Send what is left, as far as the collector takes it in time."""
        self._provider.force_flush(FLUSH_SECONDS * 1000)
        self._provider.shutdown()
