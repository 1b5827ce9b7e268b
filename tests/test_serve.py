"""`llmengine serve`, as a process: start, signals, refusals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE
from serving import eventually

from llmengine.errors import ConfigError
from llmengine.server import run

# With `held`, it answers when it is sent a line.
SCRIPT = """
import sys, threading
sys.path[:0] = [{tests!r}]
from fakes import FakeHost
from llmengine.cli import local, main
host = FakeHost("x" * 40)
if {held}:
    host.hold()
    threading.Thread(target=lambda: sys.stdin.readline() and host.release(), daemon=True).start()
local.open_host = lambda config, loading: host
main.main(["serve", *sys.argv[1:]])
"""
BODY = {"messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def served(
    *flags: str, held: bool = False
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its URL, and the lines of its stderr up to the curl example."""
    code = SCRIPT.format(tests=os.path.dirname(__file__), held=held)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--port", "0", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip())
            if line.startswith("try: curl"):
                break
        found = re.search(r"http://\S+:\d+", "\n".join(lines))
        assert found, lines
        yield process, found[0], lines
    finally:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str], sent: str = "") -> tuple[int, str, str]:
    output, errors = process.communicate(sent, timeout=PATIENCE)
    return process.returncode, output, errors


def draining(url: str) -> bool:
    return bool(httpx.get(f"{url}/health/ready").json()["status"] == "draining")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(number: signal.Signals) -> None:
    with served("--name", "mine") as (process, url, lines):
        assert lines[-2].endswith(f"serves mine at {url}/v1 (Ctrl-C stops)")
        assert lines[-1] == (
            f"try: curl {url}/v1/chat/completions "
            """-d '{"messages": [{"role": "user", "content": "Hello!"}]}'"""
        )
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY).json()
        assert answer["model"] == "mine"
        assert answer["choices"][0]["message"]["content"] == "x" * 40
        process.send_signal(number)
        code, output, errors = finish(process)
        assert code == 0
        assert output == ""
        assert "Traceback" not in errors


def test_the_curl_example_works() -> None:
    with served("--api-key", "k") as (_, url, lines):
        content = lines[-1].partition(" -d ")[2].strip("'")
        assert "-H 'Authorization: Bearer KEY'" in lines[-1]
        headers = {"Authorization": "Bearer k"}
        response = httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers)
        assert response.status_code == 200


def test_a_signal_lets_running_answers_finish_and_refuses_new_ones() -> None:
    with served(held=True) as (process, url, _):
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=PATIENCE))

        thread = threading.Thread(target=ask)
        thread.start()
        assert eventually(lambda: httpx.get(f"{url}/health").json()["running"] == 1)
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: draining(url))
        assert answers == []
        code, _, _ = finish(process, "\n")
        thread.join()
        assert answers[0].json()["choices"][0]["message"]["content"] == "x" * 40
        assert code == 0


def test_a_second_signal_ends_at_once() -> None:
    with served(held=True) as (process, url, _):

        def ask() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=PATIENCE)

        thread = threading.Thread(target=ask)
        thread.start()
        assert eventually(lambda: httpx.get(f"{url}/health").json()["running"] == 1)
        process.send_signal(signal.SIGTERM)
        assert eventually(lambda: draining(url))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 128 + signal.SIGTERM
        thread.join()


def test_a_door_without_a_key_is_not_opened_to_others() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmengine", "serve", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: whoever reaches 0.0.0.0 could use the server, as it has no key: make one with "
        "`llmengine keys add`, set LLM_ENGINE_API_KEY, or allow it with --insecure\n"
    )
    with served("--host", "0.0.0.0", "--insecure") as (_, _, lines):
        assert any(line.startswith("warning: whoever reaches http://0.0.0.0:") for line in lines)
    with served("--host", "0.0.0.0", "--api-key", "k") as (_, _, lines):
        assert not any("warning" in line for line in lines)


def test_a_port_that_is_taken_is_one_line_before_anything_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "llmengine", "serve", "-m", "nothing", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "--host and --port choose another address\n"
    )


def test_a_missing_file_to_warm_is_one_line_before_anything_is_loaded() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "llmengine", "serve", "-m", "nothing", "--port", "0"),
            *("--set", "cache.warm=prompts/support.txt"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: cache.warm: prompts/support.txt: No such file or directory\n")


def test_what_nobody_would_share_is_not_warmed(tmp_path: Path) -> None:
    file = tmp_path / "support.txt"
    file.write_text("Be brief.")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "llmengine", "serve", "-m", "nothing", "--port", "0"),
            *("--set", f"cache.warm={file}", "--set", "server.api_keys=bob:b-key"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: what is warmed serves clients with server.api_key, and there is no such key: "
        'set it, or cache.share = "all"\n'
    )


@pytest.mark.parametrize("host", ["999.1.1.1", "no-such-host.invalid", "x" * 300, "192.0.2.1"])
def test_addresses_that_are_none(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        run.bind(host, 0)


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with run.bind("::1", 0) as listener:
        assert listener.family == socket.AF_INET6
