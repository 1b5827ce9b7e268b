"""Clients that misbehave below HTTP's meaning: the others are answered all the same."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from patience import PATIENCE
from serving import eventually, serving

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}
KILLED = """
import socket, sys
stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
stream.sendall(sys.argv[2].encode())
stream.recv(100)
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def client(host: FakeHost) -> Iterator[httpx.Client]:
    with serving(host) as client:
        yield client
        assert client.post(CHAT, json=BODY).json()["choices"][0]["message"]["content"]


def connect(client: httpx.Client) -> socket.socket:
    stream = socket.create_connection((client.base_url.host, client.base_url.port or 80))
    stream.settimeout(PATIENCE)
    return stream


def http(path: str, body: dict[str, Any], *headers: str) -> bytes:
    content = json.dumps(body)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", content]).encode()


def read_all(stream: socket.socket) -> bytes:
    found = b""
    with stream:
        while chunk := stream.recv(65536):
            found += chunk
    return found


def test_clients_that_are_killed_in_the_middle() -> None:
    with FakeHost("x" * 40_000, delay=0.002) as host, serving(host) as client:
        request = http(CHAT, {**BODY, "stream": True}).decode()
        arguments = [sys.executable, "-c", KILLED, str(client.base_url.port), request]
        clients = [
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        for each in clients:
            assert each.stdout is not None
            assert each.stdout.readline() == b"reading\n"
        assert host.running == 3
        for each in clients:
            os.kill(each.pid, signal.SIGKILL)
            each.communicate()
        assert eventually(lambda: host.running == 0)
        assert len(host.cancelled) == 3


def test_a_client_that_does_not_read_holds_nobody_up() -> None:
    def script(request: Any) -> str:
        return "x" * 40_000 if bytes(request.prompt[1:]) == b"long" else "short"

    with FakeHost(script, step=100) as host, serving(host) as client:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        deaf.connect((client.base_url.host, client.base_url.port or 80))
        # Some 10 MB of log-probabilities: more than any buffer on the way takes.
        body = {"prompt": "long", "stream": True, "logprobs": 20}
        deaf.sendall(http("/v1/completions", body))
        # It is computed to its end, though nobody takes it.
        assert eventually(lambda: host.stats().finished == {"stop": 1})
        for stream in (False, True):
            body = {"prompt": "other", "stream": stream}
            assert "short" in client.post("/v1/completions", json=body).text
        assert '"/v1/completions",model="fake",status="499"' not in client.get("/metrics").text
        deaf.close()
        gone = '"/v1/completions",model="fake",status="499"} 1.0'
        assert eventually(lambda: gone in client.get("/metrics").text)


def test_a_thousand_connections_that_say_nothing_or_half(client: httpx.Client) -> None:
    half = http(CHAT, BODY)[:60]
    for at in range(1000):
        with connect(client) as stream:
            if at % 2:
                stream.sendall(half)
    held = [connect(client) for _ in range(200)]
    assert client.get("/health").status_code == 200
    for each in held:
        each.close()


@pytest.mark.parametrize("stream", [False, True])
def test_requests_that_come_at_once_are_answered_in_their_order(
    client: httpx.Client, host: FakeHost, stream: bool
) -> None:
    host.answer = lambda request: bytes(request.prompt[1:]).decode()
    bodies = [{"prompt": f"<{at}>", "stream": stream} for at in range(3)]
    *first, last = (("/v1/completions", each) for each in bodies)
    with connect(client) as connection:
        connection.sendall(
            b"".join(http(*each) for each in first) + http(*last, "Connection: close")
        )
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    assert found.count(b"HTTP/1.1 200") == 3
    assert [found.index(f"<{at}>".encode()) for at in range(3)] == sorted(
        found.index(f"<{at}>".encode()) for at in range(3)
    )


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/completions?" + b"a=1&" * 16_384 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % at for at in range(5000)) + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a=1; " * 20_000 + b"\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 2000000000\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 1000,
    ],
    ids=["path", "query", "headers", "cookie", "length", "2 GB", "TLS", "HTTP/2", "lines"],
)
def test_oversized_and_foreign_requests(client: httpx.Client, request_bytes: bytes) -> None:
    with connect(client) as stream:
        try:
            stream.sendall(request_bytes)
            stream.shutdown(socket.SHUT_WR)
            answer = stream.recv(65536)
        except OSError as error:  # refused before it was read
            if isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN:
                return
            raise
    assert answer == b"" or answer.split()[1].startswith(b"4"), answer[:300]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "BREW"])
def test_methods_that_nobody_offers(client: httpx.Client, method: str) -> None:
    for path in (CHAT, "/v1/models", "/", "/v1/responses/x"):
        with connect(client) as stream:
            stream.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = read_all(stream)
        assert answer.split()[1][:1] in (b"2", b"4"), (method, path, answer[:200])
        if method == "HEAD":
            assert answer.endswith(b"\r\n\r\n")
