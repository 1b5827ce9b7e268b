"""New settings for a server that runs: what is taken over, and what has to wait."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from serving import eventually
from test_serve import BODY, served

from llmengine.config import Config, LoggingConfig, ModelConfig, ServerConfig
from llmengine.server.app import create_app
from llmengine.server.reload import reload
from llmengine.settings import load
from llmengine.settings.live import left_over, taken_over


def test_what_may_change_is_taken_over() -> None:
    running = Config(server=ServerConfig(api_key="old", port=1))
    wanted = Config(
        server=ServerConfig(api_key="new", port=2),
        model=ModelConfig(context_size=512),
        logging=LoggingConfig(level="debug"),
    )
    found = taken_over(running, wanted)
    assert found == Config(
        server=ServerConfig(api_key="new", port=1), logging=LoggingConfig(level="debug")
    )
    assert left_over(found, wanted) == ["server.port", "model.context_size"]
    assert taken_over(running, running) == running
    assert left_over(running, running) == []


def test_settings_are_read_again_from_where_they_came(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[server]\nport = 1\n")
    settings = load({"server.host": "127.0.0.2"}, assignments=["cache.disk=false"], path=file)
    file.write_text("[server]\nport = 2\n")
    again = settings.again().config
    assert (again.server.port, again.server.host, again.cache.disk) == (2, "127.0.0.2", False)


@pytest.mark.parametrize(("seconds", "allowed"), [(30, 90), (0, 365 * 86_400)])
def test_sanic_allows_what_the_new_deadline_does(seconds: int, allowed: int) -> None:
    app = create_app(Config())
    reload(app, Config(server=ServerConfig(request_timeout_seconds=seconds)))
    assert allowed == app.config.RESPONSE_TIMEOUT


def status(url: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers).status_code


def test_a_server_takes_new_keys_over(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\napi_key = "first"\n[logging]\nlog_requests = false\n')
    with served("--config", str(file)) as (process, url, _):
        assert (status(url, "first"), status(url, "second")) == (200, 401)
        file.write_text('[server]\napi_key = "second"\nmax_queue = 5\n')
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: status(url, "second") == 200)
        assert status(url, "first") == 401
        file.write_text('[server]\napi_kee = "third"\n')
        process.send_signal(signal.SIGHUP)
        said = []
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip())
            if "settings are as they were" in line:
                break
        assert any(
            each.endswith("server.max_queue: takes effect at the next start") for each in said
        )
        # The line of a request that came after them is the first.
        requests = [each for each in said if "/v1/chat/completions" in each]
        assert {each.partition(" request=")[0].split(maxsplit=1)[1] for each in requests} == {
            "INFO    /v1/chat/completions 200",
            "INFO    /v1/chat/completions 401",
        }
        assert "the settings were read again" in said[: said.index(requests[0])][-1]
        assert said[-1].startswith("settings are as they were: ")
        assert "did you mean server.api_key?" in said[-1]
        assert (status(url, "first"), status(url, "second")) == (401, 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
