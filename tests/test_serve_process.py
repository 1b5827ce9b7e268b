"""`llmengine serve` with the embedded model in its process, as users start it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest
from patience import PATIENCE
from serving import events, eventually

pytestmark = pytest.mark.model

# It tells what it imported, on stdout, when it has ended.
SCRIPT = """
import sys
from llmengine.cli import main
code = main.run()
print(*sorted(sys.modules))
sys.exit(code)
"""
DETERMINISTIC = ("--set", "performance.deterministic=true", "--set", "cache.disk=false")
STORY = {
    "prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "seed": 4, "stream": True,
}  # fmt: skip


@contextmanager
def served(*flags: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "serve", "--port", "0", *DETERMINISTIC, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = next(filter(None, (re.search(r"at (http://\S+)/v1", e) for e in process.stderr)))
        with httpx.Client(base_url=found[1], timeout=PATIENCE) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[set[str], str]:
    process.terminate()
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return set(output.split()), errors


def test_the_server_never_imports_what_computes() -> None:
    with served() as (process, client):
        asked = {
            "messages": [{"role": "user", "content": "Hello!"}],
            "max_tokens": 20,
            "logprobs": True,
            "response_format": {"type": "json_object"},
        }
        assert client.post("/v1/chat/completions", json=asked).status_code == 200
        short = {"input": "Hello!", "dimensions": 8}
        assert client.post("/v1/embeddings", json=short).status_code == 200
        ranked = {"query": "a", "documents": ["b", "c"]}
        assert client.post("/v1/rerank", json=ranked).status_code == 200
        for path in ("/metrics", "/v1/cache", "/v1/cache/entries", "/health"):
            assert client.get(path).status_code == 200
        modules, _ = finish(process)
    assert "llmengine.host.supervisor" in modules
    assert not modules & {"llama_cpp", "numpy", "llguidance", "llmengine.engine.engine"}


def test_a_client_does_not_notice_that_the_engine_is_killed() -> None:
    with served("--set", "logging.format=json") as (process, client):
        calm = client.post("/v1/completions", json=STORY).text
        with client.stream("POST", "/v1/completions", json=STORY) as response:
            pieces = response.iter_text()
            text = next(pieces)
            while text.count("data:") < 40:
                text += next(pieces)
            [child] = psutil.Process(process.pid).children()
            child.kill()
            text += "".join(pieces)
        assert told(text) == told(calm)
        assert eventually(lambda: client.get("/health").json()["status"] == "ok", PATIENCE)
        health = client.get("/health").json()
        assert (health["engine_restarts"], health["total_requests"]) == (1, 2)
        _, errors = finish(process)
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [each["level"] for each in lines] == ["info", "error", "warning", "info"]
    assert lines[1]["message"] == (
        "the engine's process was killed by SIGKILL and is started anew; requests that go on: 1"
    )
    assert lines[2]["message"] == "the engine runs again"


def told(stream: str) -> tuple[str, list[str]]:
    chunks = [each for each in events(stream) if each != "[DONE]"]
    choices = [choice for each in chunks for choice in each["choices"]]
    text = "".join(choice["text"] for choice in choices)
    return text, [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def test_in_process_it_is_one_process() -> None:
    with served("--in-process") as (process, client):
        assert (
            client.post("/v1/completions", json={"prompt": "a", "max_tokens": 4}).status_code == 200
        )
        assert psutil.Process(process.pid).children() == []
        modules, _ = finish(process)
    assert "llama_cpp" in modules


def test_a_model_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmengine", "serve", "--port", "0", "-m", "missing"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert re.fullmatch(r"error: no model missing: .*\n", done.stderr)


def test_it_serves_though_nobody_reads_its_log() -> None:
    with served() as (process, client):
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for number in range(100):  # lines, of which that holds less than half
            assert client.get("/nowhere", headers={"X-Request-Id": f"r{number}"}).status_code == 404
        lines = iter(process.stderr)
        for number in range(100):
            assert next(found for found in lines if f"request=r{number} " in found)
        finish(process)


def test_a_second_signal_leaves_nothing_behind() -> None:
    with served("--set", "server.drain_seconds=60") as (process, client):
        [child] = psutil.Process(process.pid).children()
        with client.stream("POST", "/v1/completions", json={**STORY, "max_tokens": 3000}) as answer:
            pieces = answer.iter_text()  # closes the connection when it is let go
            next(pieces)
            process.send_signal(signal.SIGTERM)
            assert eventually(
                lambda: client.get("/health").json()["status"] == "draining", PATIENCE
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert eventually(lambda: not os.path.exists(f"/proc/{child.pid}"), PATIENCE)
