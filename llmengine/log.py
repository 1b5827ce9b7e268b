"""Logging on stderr: coloured lines on a terminal, or one JSON object per line."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from typing import Any, Protocol, TextIO

NAME = "llmengine"

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# Text of a prompt or a model file must not move the cursor, nor pass for a line of its own.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Settings(Protocol):
    """What `configure` needs; `llmengine.config.LoggingConfig` has it."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...


def configure(settings: Settings) -> None:
    """Send what llmengine logs to stderr, in the format and from the level of `settings`.

    May be called again; the last call wins.
    """
    handler = _StderrHandler()
    handler.setFormatter(JsonFormatter() if settings.format == "json" else PrettyFormatter())
    logger = logging.getLogger(NAME)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(settings.level.upper())


def colour_allowed(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose user did not set NO_COLOR (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: str) -> str:
    """`text` on one line, with its control characters written as escapes."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment, which tests and prompts may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")  # as one: threads write between two
            sys.stderr.flush()
        except Exception:  # as every handler of logging: a lost line must not stop the program
            self.handleError(record)


class PrettyFormatter(logging.Formatter):
    """`12:03:04 INFO    loaded tiny-chat  seconds=0.2`"""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        fields = "".join(f" {name}={printable(str(value))}" for name, value in extra(record))
        if colour_allowed(sys.stderr):
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
            clock, fields = f"\x1b[2m{clock}\x1b[0m", fields and f"\x1b[2m{fields}\x1b[0m"
        line = f"{clock} {level} {printable(record.getMessage())}{fields}"
        exception = _exception(self, record)
        return f"{line}\n{exception}" if exception else line


class JsonFormatter(logging.Formatter):
    """`{"time": "2026-01-31T11:03:04.123Z", "level": "info", "message": ..., "logger": ...}`"""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.created * 1000) % 1000:03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **dict(extra(record)),
        }
        if exception := _exception(self, record):
            fields["exception"] = exception
        return json.dumps(fields, default=str)


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    """The traceback, which a record from another process brings as text."""
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return record.exc_text


def extra(record: logging.LogRecord) -> list[tuple[str, Any]]:
    """The fields given as `extra={...}`, in their order."""
    return [(name, value) for name, value in record.__dict__.items() if name not in _STANDARD]
