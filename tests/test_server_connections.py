"""Many clients at once, and clients that go away."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from answers import GIVEN
from dialects import CALL
from fakes import FakeHost
from patience import PATIENCE
from serving import config, events, eventually, serving

from llmengine.core import Request, Sink

BODY = {"messages": [{"role": "user", "content": "hi"}]}
PATHS = {"/v1/chat/completions": BODY, "/v1/completions": {"prompt": "hi"}}


def send(client: httpx.Client, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which this request has been sent."""
    stream = socket.create_connection((client.base_url.host, client.base_url.port or 80))
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    stream.sendall(head.encode() + content)
    return stream


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_goes_away_frees_its_requests(path: str, stream: bool, n: int) -> None:
    with FakeHost("x" * 4000, delay=0.005) as host, serving(host) as client:
        connection = send(client, path, {**PATHS[path], "stream": stream, "n": n})
        assert eventually(lambda: host.running == n)
        with connection:
            found = b""
            while stream and b"data: " not in found:
                found += connection.recv(65536)
        assert eventually(lambda: host.running == 0)
        assert sorted(host.cancelled) == sorted(request.id for request in host.requests)


def test_others_are_answered_while_many_choices_are_submitted() -> None:
    answered = threading.Event()

    class SlowHost(FakeHost):
        def submit(self, request: Request, sink: Sink) -> None:
            super().submit(request, sink)
            answered.wait(0.5)

    with SlowHost() as host, serving(host) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/v1/chat/completions", json={**BODY, "n": 20})
        assert eventually(lambda: host.requests)
        assert client.get("/health").status_code == 200
        assert len(host.requests) < 20
        answered.set()
        assert len(answer.result().json()["choices"]) == 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_queued(stream: bool) -> None:
    with FakeHost() as host, serving(host) as client:
        host.hold()
        connection = send(client, "/v1/chat/completions", {**BODY, "stream": stream})
        assert eventually(lambda: host.running == 1)
        connection.close()
        assert eventually(lambda: host.cancelled)
        host.release()
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def test_a_client_with_a_large_body_that_goes_away() -> None:
    large = {"prompt": "x" * 300_000}
    with FakeHost("x" * 4000, delay=0.005, context=2**20) as host, serving(host) as client:
        connection = send(client, "/v1/completions", large)
        assert eventually(lambda: host.running == 1)
        connection.close()
        assert eventually(lambda: host.running == 0)
        assert len(host.cancelled) == 1


def test_what_finished_is_not_cancelled() -> None:
    with FakeHost() as host, serving(host) as client:
        for stream in (False, True):
            body = {**BODY, "stream": stream, "n": 4}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert host.cancelled == []
        assert host.running == 0


def test_a_cancelled_request_has_its_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "llmengine")
    with FakeHost() as host, serving(host) as client:
        host.hold()
        connection = send(client, "/v1/chat/completions", BODY)
        assert eventually(lambda: host.running == 1)
        connection.close()
        assert eventually(lambda: "/v1/chat/completions 499" in caplog.text)
        host.release()
    levels = {record.levelname for record in caplog.records}
    assert levels == {"INFO"}, caplog.text


def test_thirty_two_streams_at_once() -> None:
    def script(request: Request) -> str:
        return bytes(request.prompt[1:]).decode() * 20

    with FakeHost(script, step=3, delay=0.001) as host, serving(host) as client:
        host.hold()

        def one(number: int) -> str:
            body = {"prompt": f"<{number}>", "stream": True}
            response = client.post("/v1/completions", json=body)
            *chunks, done = events(response.text)
            assert done == "[DONE]"
            return "".join(chunk["choices"][0]["text"] for chunk in chunks)

        with ThreadPoolExecutor(32) as pool:
            answers = [pool.submit(one, number) for number in range(32)]
            assert eventually(lambda: host.running == 32)
            host.release()
            found = [answer.result() for answer in answers]
        assert found == [f"<{number}>" * 20 for number in range(32)]
        assert host.most_running == 32
        longest = len("<31>") * 20
        # One call per step for all streams together, however many there are.
        assert host.sink_calls <= longest // 3 + 5


def test_pieces_arrive_when_they_are_made() -> None:
    with FakeHost("abcd" * 10_000, delay=0.01) as host, serving(host) as client:
        with client.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as got:
            lines = got.iter_lines()  # closes the connection when it is let go
            line = next(lines)
            assert host.running == 1  # for minutes to come
        assert json.loads(line.removeprefix("data: "))["choices"][0]["text"] == "abcd"


def test_characters_are_never_cut() -> None:
    text = "añ😀z" * 30
    with FakeHost(text, step=1) as host, serving(host) as client:
        response = client.post("/v1/completions", json={"prompt": "x", "stream": True})
        *chunks, _ = events(response.text)
        pieces = [chunk["choices"][0]["text"] for chunk in chunks]
        assert "".join(pieces) == text
        assert "�" not in "".join(pieces)


def test_a_silent_stream_is_kept_alive() -> None:
    with FakeHost() as host, serving(host, config(keepalive_seconds=0.02)) as client:
        host.hold()
        body = {**BODY, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            for line in lines:
                if line == ": waiting":
                    break
            host.release()
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]


def test_running_requests_finish_when_the_server_stops() -> None:
    with FakeHost("x" * 400, delay=0.002) as host:
        answers: list[httpx.Response] = []
        threads = []
        with serving(host) as client:
            url = client.base_url

            def ask(stream: bool) -> None:
                body = {**BODY, "stream": stream}
                answers.append(
                    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
                )

            for stream in (False, True):
                threads.append(threading.Thread(target=ask, args=(stream,)))
                threads[-1].start()
            assert eventually(lambda: host.running == 2)
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert sorted("[DONE]" in answer.text for answer in answers) == [False, True]
        assert host.cancelled == []


def test_what_outlasts_the_drain_ends_with_an_error() -> None:
    settings = config(request_timeout_seconds=60)
    with FakeHost("x" * 4000, delay=0.01) as host:
        host.drain = lambda timeout: False  # type: ignore[method-assign]
        with serving(host, settings) as client:
            connection = send(client, "/v1/chat/completions", {**BODY, "stream": True})
            assert eventually(lambda: host.running == 1)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        connection.close()
        assert b'"code":"model_unavailable"' in found
        assert b"[DONE]" not in found


def test_an_answer_is_not_whole_because_another_is() -> None:
    def script(request: Any) -> str:
        return CALL * request.id.endswith("-0") + "x" * 4000

    with FakeHost(script, delay=0.01) as host:
        host.drain = lambda timeout: False  # type: ignore[method-assign]
        with serving(host) as client:
            body = {**BODY, "stream": True, "n": 2, "tools": GIVEN, "parallel_tool_calls": False}
            connection = send(client, "/v1/chat/completions", body)
            assert eventually(lambda: len(host.cancelled) == 1)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        connection.close()
        assert found.count(b'"finish_reason":"tool_calls"') == 1
        assert b'"finish_reason":"stop"' not in found
        assert b'"code":"model_unavailable"' in found
