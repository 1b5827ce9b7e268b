"""Logs, metrics and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from llmengine.config.option import Section, option


class LoggingConfig(Section, frozen=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        option("What to log.", env="LLM_ENGINE_LOG_LEVEL", flag="log-level", live=True),
    ] = "info"
    format: Annotated[
        Literal["pretty", "json"], option("How a log line looks.", flag="log-format", live=True)
    ] = "pretty"
    log_requests: Annotated[
        bool, option("One line per request, without its prompt.", live=True)
    ] = True
    log_prompts: Annotated[bool, option("Log prompts, as the model reads them.", live=True)] = False
    slow_request_seconds: Annotated[
        float,
        option(
            "From how long a request is logged as slow, with its phases; 0: never.", ge=0, live=True
        ),
    ] = 0.0


class MetricsConfig(Section, frozen=True):
    enabled: Annotated[bool, option("Serve Prometheus metrics.")] = True
    endpoint: Annotated[str, option("Path of the metrics.", pattern=r"^/[\w/.-]*$")] = "/metrics"


class TracingConfig(Section, frozen=True):
    endpoint: Annotated[
        str,
        option("OTLP collector for traces, like http://127.0.0.1:4318; empty: no traces."),
    ] = ""
