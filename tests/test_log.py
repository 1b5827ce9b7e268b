from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from llmengine import log
from llmengine.config import LoggingConfig

logger = logging.getLogger("llmengine.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.time, "localtime", lambda _: log.time.gmtime(0))


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr. To be called in the test: pytest sets stderr after the fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


@pytest.mark.usefixtures("clock")
def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LoggingConfig())
    logger.info("loaded %s", "tiny-chat", extra={"seconds": 0.2, "request_id": "r1"})
    captured = capsys.readouterr()
    assert captured.err == "00:00:00 INFO    loaded tiny-chat seconds=0.2 request_id=r1\n"
    assert captured.out == ""


@pytest.mark.usefixtures("clock")
def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    log.configure(LoggingConfig())
    logger.error("no room", extra={"cells": 7})
    assert terminal.getvalue() == (
        "\x1b[2m00:00:00\x1b[0m \x1b[31mERROR  \x1b[0m no room\x1b[2m cells=7\x1b[0m\n"
    )


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_when_the_user_wants_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    log.configure(LoggingConfig())
    logger.info("hello")
    assert terminal.getvalue() == "00:00:00 INFO    hello\n"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LoggingConfig(format="json"))
    record = logger.makeRecord(
        logger.name, logging.WARNING, "", 0, "line\nbreak \ud800", (), None, extra={"slots": 3}
    )
    record.created = 86400.25
    logger.handle(record)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line) == {
        "time": "1970-01-02T00:00:00.250Z",
        "level": "warning",
        "message": "line\nbreak \ud800",
        "logger": "llmengine.test",
        "slots": 3,
    }


def test_json_carries_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LoggingConfig(format="json"))
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("failed")
    fields = json.loads(capsys.readouterr().err)
    assert fields["exception"].endswith("KeyError: 'x'")


@pytest.mark.usefixtures("clock")
def test_control_characters_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LoggingConfig())
    logger.info("prompt %s", "\x1b[2J\n00:00:00 ERROR   forged")
    assert capsys.readouterr().err == (
        "00:00:00 INFO    prompt \\x1b[2J\\n00:00:00 ERROR   forged\n"
    )


def test_the_level_and_the_last_call_count(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(LoggingConfig(level="debug"))
    log.configure(LoggingConfig(level="error"))
    logger.warning("unheard")
    logger.error("heard")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ERROR   heard")
