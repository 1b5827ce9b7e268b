"""Log records on their way from the engine's process into the log of its parent."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmengine import log
from llmengine.host.wire import Logged

_formatter = logging.Formatter()


class RelayHandler(logging.Handler):
    """Hands records to `send` in place of writing them."""

    def __init__(self, send: Callable[[Logged], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        exception = _formatter.formatException(record.exc_info) if record.exc_info else None
        self._send(
            Logged(
                record.name,
                record.levelno,
                record.created,
                record.getMessage(),
                dict(log.extra(record)),
                exception,
            )
        )


def level() -> int:
    """From which level on llmengine logs in this process."""
    return logging.getLogger(log.NAME).getEffectiveLevel()


def log_from(level: int) -> None:
    logging.getLogger(log.NAME).setLevel(level)


def relay(level: str, send: Callable[[Logged], None]) -> None:
    """Send what llmengine logs from `level` on to the other process."""
    logger = logging.getLogger(log.NAME)
    logger.handlers[:] = [RelayHandler(send)]
    logger.propagate = False
    logger.setLevel(level.upper())


def replay(logged: Logged) -> None:
    """Log a record here as it was logged there."""
    logger = logging.getLogger(logged.name)
    if not logger.isEnabledFor(logged.level):
        return
    record = logger.makeRecord(
        logged.name, logged.level, "", 0, logged.message, (), None, extra=logged.fields
    )
    record.created = logged.created
    record.exc_text = logged.exception
    logger.handle(record)
