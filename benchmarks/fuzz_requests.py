"""Requests as no client should send them: good ones, changed by chance."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

CHAT = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 4}
ARGUMENTS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": ARGUMENTS}}
STREAM = {**CHAT, "stream": True}
GOOD: Sequence[tuple[str, str, Any]] = (
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**STREAM, "n": 2, "return_progress": True}),
    ("POST", "/v1/chat/completions", {**CHAT, "tools": [TOOL]}),
    ("POST", "/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}),
    ("POST", "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 4, "logprobs": 2}),
    ("POST", "/v1/completions", {"prompt": [1, 2], "max_tokens": 4, "stop": "x", "stream": True}),
    ("POST", "/v1/responses", {"input": "Hi.", "max_output_tokens": 4, "store": False}),
    ("POST", "/v1/messages", STREAM),
    ("POST", "/v1/messages/count_tokens", CHAT),
    ("POST", "/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"}),
    ("POST", "/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
    ("POST", "/tokenize", {"content": "some text", "with_pieces": True}),
    ("POST", "/detokenize", {"tokens": [1, 2, 3]}),
    ("POST", "/apply-template", CHAT),
    ("POST", "/v1/cache/warm", {"prompt": "word " * 80}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/cache/entries", None),
    ("GET", "/v1/responses/resp_1", None),
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("DELETE", "/v1/cache/entries/1", None),
    ("OPTIONS", "/v1/chat/completions", None),
)  # fmt: skip

# What parsers stumble over.
PIECES = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\t", b":", b",", b'"',
    b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 300, b"null",
    b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 400, b"-0.0", b"2147483648", b"%00",
    b"%2e%2e%2f", b"../", b"a" * 5000, "😀é".encode(), b"\x1b[2J", b"HTTP/1.1", b"GET ", b"chunked",
    b"<|im_start|>", b"<|im_end|>", b"{{ 7 * 7 }}", b"{% include '/etc/passwd' %}", b"$ref",
    b"(a+)+$", b"(?=",
)  # fmt: skip

HEADERS = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Content-Length: 1, 2", b"Content-Length: 0x10", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: xchunked", b"Expect: 100-continue",
    b"Expect: tea", b"Connection: close", b"Connection: upgrade\r\nUpgrade: websocket",
    b"Upgrade: h2c", b"Host: evil.example", b"Host:", b"X-Request-Timeout: 0.01",
    b"X-Request-Timeout: nan", b"X-Request-Id: " + b"x" * 300, b"Authorization: Bearer",
    b"Authorization: Basic Zm9v", b"Origin: null", b"Accept-Encoding: gzip",
    b"Content-Encoding: gzip",
    b"Content-Type: multipart/form-data; boundary=x", b"Content-Type: \xff",
    b"Cookie: a=" + b"b" * 4000,
    b"Range: bytes=0-1", b": empty", b"no colon", b" folded: 1", b"a" * 9000 + b": 1", b"X: \0",
    b"traceparent: 00-0-0-zz", b"Forwarded: for=evil;host=evil", b"X-Forwarded-Host: evil.example",
)  # fmt: skip


class Attack(Struct, frozen=True):
    """What is sent, and how."""

    kind: str
    data: bytes
    pieces: int = 1  # it is sent in, with pauses between
    half_closed: bool = False  # nothing more will come, and that is told
    aborted: bool = False  # the connection is reset when all is sent
    patience: float = 5.0  # seconds that the answer is waited for
    connections: int = 1  # at once, of which one asks


def attack(rng: random.Random) -> Attack:
    kind = rng.choice(list(KINDS))
    return KINDS[kind](kind, rng)


def _request(rng: random.Random) -> tuple[bytes, bytes]:
    """Head, without the empty line, and body of a good request."""
    method, path, body = rng.choice(GOOD)
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    return head.encode(), content


def _whole(head: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [head, b"Connection: close", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _mutated(data: bytes, rng: random.Random, most: int = 4) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(found) + 1)
        end = min(len(found), at + rng.choice((0, 0, 1, 2, 8, 64)))
        match rng.randrange(4):
            case 0:
                found[at:end] = rng.choice(PIECES)
            case 1:
                found[at:end] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 4)))
            case 2:
                found[at:at] = found[at:end] * rng.choice((1, 2, 50))
            case _:
                del found[at:end]
    return bytes(found)


def _body(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    return Attack(kind, _whole(head, _mutated(body, rng)))


def _member(kind: str, rng: random.Random) -> Attack:
    """Valid JSON whose values are of the wrong kind, somewhere."""
    head, body = _request(rng)
    value = _swapped(json.loads(body or b"{}"), rng)
    return Attack(kind, _whole(head, json.dumps(value).encode()))


def _swapped(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        return {**value, name: _swapped(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], _swapped(value[at], rng), *value[at + 1 :]]
    return rng.choice(
        (None, True, -1, 0, 0.5, 2**53, "", "x" * 3000, "\0", "\ud800", [], {}, [[]], {"": {}},
         [1] * 500, {str(at): at for at in range(200)}, "<|im_end|>", "{{ messages }}")
    )  # fmt: skip


def _head(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    return Attack(kind, _mutated(_whole(head, b""), rng) + body, patience=1.0)


def _header(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    headers = rng.choices(HEADERS, k=rng.choice((1, 1, 2, 3, 120)))
    return Attack(kind, _whole(head, body, *headers), patience=1.0)


def _chunked(kind: str, rng: random.Random) -> Attack:
    """A body in chunks, rightly or not."""
    head, body = _request(rng)
    data, at = b"", 0
    while at < len(body):
        size = rng.randint(1, 40)
        data += b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size])
        at += size
    data += rng.choice((b"0\r\n\r\n", b"0\r\nX: 1\r\n\r\n", b"0\r\n", b"", b"-1\r\n\r\n"))
    if rng.random() < 0.6:
        data = _mutated(data, rng)
    lines = [head, b"Connection: close", b"Transfer-Encoding: chunked", b"", data]
    return Attack(kind, b"\r\n".join(lines), rng.choice((1, 1, 4)), patience=1.0)


def _cut(kind: str, rng: random.Random) -> Attack:
    """Less than it says, by a client that waits, half closes or goes away."""
    head, body = _request(rng)
    data = _whole(head, body)
    return Attack(
        kind,
        data[: rng.randrange(len(data))],
        half_closed=rng.random() < 0.5,
        aborted=rng.random() < 0.5,
        patience=rng.choice((0.0, 0.2)),
    )


def _slow(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    return Attack(kind, _whole(head, body), rng.randint(2, 12))


def _gone(kind: str, rng: random.Random) -> Attack:
    """A good request whose client does not wait for the answer."""
    head, body = _request(rng)
    body = body.replace(b'"max_tokens": 4', b'"max_tokens": 400')
    patience = rng.choice((0.0, 0.01, 0.1))
    return Attack(kind, _whole(head, body), aborted=rng.random() < 0.7, patience=patience)


def _half(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    return Attack(kind, _whole(head, body), half_closed=True, patience=1.0)


def _many(kind: str, rng: random.Random) -> Attack:
    """Several requests at once on one connection, and what is no request behind them."""
    parts = []
    for _ in range(rng.randint(2, 5)):
        head, body = _request(rng)
        parts.append(_whole(head, body).replace(b"Connection: close\r\n", b""))
    last = rng.choice((b"", b"garbage", parts[0]))
    return Attack(kind, b"".join(parts) + last, patience=1.0)


def _flood(kind: str, rng: random.Random) -> Attack:
    head, body = _request(rng)
    return Attack(kind, _whole(head, body), connections=rng.randint(10, 60))


def _noise(kind: str, rng: random.Random) -> Attack:
    return Attack(kind, rng.randbytes(rng.randint(0, 20_000)), patience=1.0)


KINDS = {
    "body": _body,
    "member": _member,
    "head": _head,
    "header": _header,
    "chunked": _chunked,
    "cut": _cut,
    "slow": _slow,
    "gone": _gone,
    "half": _half,
    "many": _many,
    "flood": _flood,
    "noise": _noise,
}
