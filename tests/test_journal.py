"""What is logged of requests: their timings, their errors, and neither prompts nor keys."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from serving import eventually, serving

from llmengine.config import Config, LoggingConfig, ServerConfig
from llmengine.errors import ErrorInfo, ModelUnavailable

CHAT = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "a word in confidence"}], **fields}


def config(**logging: Any) -> Config:
    return Config(logging=LoggingConfig(**logging), server=ServerConfig(drain_seconds=5))


def lines(caplog: pytest.LogCaptureFixture, start: str) -> list[logging.LogRecord]:
    return [each for each in list(caplog.records) if each.getMessage().startswith(start)]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Hear all that anybody logs."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "llmengine")


@pytest.mark.parametrize("stream", [False, True])
def test_the_line_of_a_request_has_its_phases(
    host: FakeHost, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    with serving(host, config()) as client:
        client.post(CHAT, json=body(stream=stream))
        assert eventually(lambda: lines(caplog, CHAT))
    (line,) = lines(caplog, CHAT)
    fields = vars(line)
    assert (fields["queue"], fields["prefill"], fields["decode"]) == (0.001, 0.002, 0.003)
    assert 0 < fields["prepare"] <= fields["ttft"] <= fields["seconds"]
    assert line.levelname == "INFO"


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_request_is_told_with_where_its_time_went(
    host: FakeHost, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    with serving(host, config(slow_request_seconds=0.0001, log_requests=False)) as client:
        client.post(CHAT, json=body(stream=stream))
        assert eventually(lambda: lines(caplog, "slow"))
    (line,) = lines(caplog, "slow")
    assert line.getMessage() == f"slow: {CHAT} 200"
    assert line.levelname == "WARNING"
    fields = vars(line)
    parts = [fields[name] for name in ("prepare", "queue", "prefill", "decode", "rest")]
    assert fields["rest"] >= 0
    # The fake's phases are made up: they may be longer than the whole.
    assert sum(parts) >= fields["seconds"] - 0.001
    assert not lines(caplog, CHAT)


def test_a_request_in_time_is_not_slow(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    with serving(host, config(slow_request_seconds=3600)) as client:
        client.post(CHAT, json=body())
        assert eventually(lambda: lines(caplog, CHAT))
    assert not lines(caplog, "slow")


def test_what_is_refused_says_why(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    with serving(host, config()) as client:
        assert client.post(CHAT, json=body(n=0)).status_code == 400
        host.refuse = ModelUnavailable("the engine rests")
        assert client.post(CHAT, json=body()).status_code == 503
        assert eventually(lambda: len(lines(caplog, CHAT)) == 2)
    wrong, refused = map(vars, lines(caplog, CHAT))
    assert (wrong["error"], wrong["param"]) == ("invalid_request", "n")
    assert "reason" not in wrong  # a client's words may be in it
    assert (refused["error"], refused["reason"]) == ("model_unavailable", "the engine rests")


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_logged_with_all_that_is_known_of_the_request(
    host: FakeHost,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    kind = "chunks" if stream else "whole"
    monkeypatch.setattr(f"llmengine.server.chat_format.ChatFormat.{kind}", fail)
    with serving(host, config()) as client:
        client.post(CHAT, json=body(stream=stream), headers={"X-Request-Id": "r1"})
        assert eventually(lambda: lines(caplog, f"POST {CHAT} failed"))
    (line,) = lines(caplog, f"POST {CHAT} failed")
    assert line.levelname == "ERROR"
    assert line.exc_info is not None
    assert str(line.exc_info[1]) == "a bug"
    fields = vars(line)
    assert (fields["request"], fields["error"]) == ("r1", "internal_error")
    assert 0 < fields["prepare"] <= fields["seconds"]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """All but what the client of the test logs."""
    return [each for each in list(caplog.records) if not each.name.startswith("http")]


def test_prompts_are_logged_only_when_asked_for(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(client: httpx.Client) -> None:
        for stream in (False, True):
            client.post(CHAT, json=body(stream=stream), headers={"X-Request-Id": "r1"})
        client.post("/v1/completions", json={"prompt": ["in confidence 1", "in confidence 2"]})
        client.post("/v1/embeddings", json={"input": "in confidence 3"})
        client.post(CHAT, json=body(n="in confidence"))
        assert eventually(lambda: len(lines(caplog, "/v1/")) == 5)

    with serving(host, config()) as client:
        ask(client)
        assert "confidence" not in "".join(str(vars(each)) for each in told(caplog))
        caplog.clear()
    with FakeHost() as other, serving(other, config(log_prompts=True)) as client:
        ask(client)
    prompts = lines(caplog, "prompt: ")
    assert [each.getMessage() for each in prompts] == [
        *["prompt: <|im_start|>user\na word in confidence<|im_end|>\n<|im_start|>assistant\n"] * 2,
        "prompt: in confidence 1",
        "prompt: in confidence 2",
        "prompt: in confidence 3",
    ]
    assert vars(prompts[0])["request"] == "r1"


def test_keys_are_never_told(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    settings = Config(
        server=ServerConfig(api_key="sesame-1", admin_key="sesame-2", drain_seconds=5),
        logging=LoggingConfig(level="debug", log_prompts=True, slow_request_seconds=3600),
    )
    answers = []
    with serving(host, settings) as client:
        for key in ("sesame-1", "sesame-2", "sesame-3"):
            for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}):
                for path in (CHAT, f"{CHAT}?api_key={key}", "/v1/cache/warm"):
                    answers.append(client.post(path, json=body(), headers=headers))
                    answers.append(client.post(path, content=b"{", headers=headers))
        answers.append(client.get("/metrics", headers={"Authorization": "Bearer sesame-1"}))
        assert eventually(lambda: sum("seconds" in vars(each) for each in told(caplog)) == 37)
    assert {each.status_code for each in answers} == {200, 400, 401, 403}
    words = [str(vars(each)) for each in told(caplog)]
    words += [f"{each.text} {each.headers}" for each in answers]
    assert "sesame" not in "".join(words)


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_in_the_engine_has_its_tokens_and_timings(
    host: FakeHost, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    host.failure = ErrorInfo("OutOfMemory", "no room")
    with serving(host, config()) as client:
        client.post(CHAT, json=body(stream=stream))
        assert eventually(lambda: lines(caplog, CHAT))
    (line,) = lines(caplog, CHAT)
    assert line.getMessage() == f"{CHAT} 507"
    fields = vars(line)
    assert (fields["error"], fields["reason"]) == ("insufficient_resources", "no room")
    assert (fields["completion_tokens"], fields["decode"]) == (4, 0.003)
