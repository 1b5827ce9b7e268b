"""Bodies that nobody should send: each is refused in its API's shape, and the server lives on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import FakeHost
from msgspec import Struct
from serving import config, serving

from llmengine.core import Request
from llmengine.server.bodies import ChatBody, CompletionBody
from llmengine.server.messages_body import CountBody, MessagesBody
from llmengine.server.responses_body import ResponsesBody

HI = [{"role": "user", "content": "hi"}]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "store": False},
    "/v1/messages": {"messages": HI, "max_tokens": 9},
    "/v1/messages/count_tokens": {"messages": HI},
}
PATHS = tuple(GOOD)
KINDS: dict[str, type[Struct]] = dict(
    zip(PATHS, (ChatBody, CompletionBody, ResponsesBody, MessagesBody, CountBody), strict=True)
)
DEEP = 100_000
INTEGERS = """
n max_tokens top_k seed dry_allowed_length dry_penalty_last_n repeat_last_n mirostat
"""
NUMBERS = """
temperature top_p min_p typical_p top_n_sigma xtc_probability xtc_threshold dry_multiplier dry_base
repeat_penalty presence_penalty frequency_penalty mirostat_tau mirostat_eta
"""


@pytest.fixture(scope="module")
def host() -> Iterator[FakeHost]:
    with FakeHost() as host:
        yield host


@pytest.fixture(scope="module")
def client(host: FakeHost) -> Iterator[httpx.Client]:
    with serving(host, config(max_body_mb=1)) as client:
        yield client


@pytest.fixture(autouse=True)
def alive(client: httpx.Client, host: FakeHost) -> Iterator[None]:
    """Nothing of a refused body reaches the engine, and the next good one is answered."""
    before = len(host.requests)
    yield
    assert len(host.requests) == before
    assert client.post(PATHS[0], json=GOOD[PATHS[0]]).status_code == 200


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = dict(response.json()["error"])
    assert "\n" not in error["message"]
    assert len(error["message"]) < 600
    if response.request.url.path.startswith("/v1/messages"):  # Anthropic's
        assert response.json()["type"] == "error"
        assert sorted(error) == ["message", "type"]
        named = re.match(r"`(.*?)`", error["message"])
        return {**error, "param": named[1] if named else None}
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error"
    return error


def raw(path: str, field: bytes) -> bytes:
    """A good body with one more member."""
    return json.dumps(GOOD[path]).encode()[:-1] + b", " + field + b"}"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"  \n", "invalid_request"),
        (b"{", "invalid_json"),
        (b"{}{}", "invalid_request"),
        (b"hello", "invalid_json"),
        (b"[]", "invalid_request"),
        (b'"text"', "invalid_request"),
        (b"1", "invalid_request"),
        (b"null", "invalid_request"),
        (b"true", "invalid_request"),
        (b"\0", "invalid_json"),
        (b"\xff\xfe{\0}\0", "invalid_json"),
        (b"\x1f\x8b\x08", "invalid_json"),
        (b"[" * DEEP, "invalid_request"),
        (b"{}" + b" " * DEEP + b"x", "invalid_request"),
        (b"model=fake&prompt=hi", "invalid_json"),
    ],
)
def test_no_json_object(client: httpx.Client, path: str, body: bytes, code: str) -> None:
    error = refused(client.post(path, content=body))
    assert error.get("code", code) in (code, "invalid_json")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "field",
    [
        b'"temperature": NaN',
        b'"temperature": Infinity',
        b'"temperature": -Infinity',
        b'"temperature": 1e999',
        b'"unknown": NaN',
        b'"unknown": "\xff"',
        b'"user": "\xc3\x28"',
        b'"user": "\0"',
        b'"stop": "\\ud800"',
        b'"seed": ' + b"9" * 5000,
        b'"unknown": ' + b"9" * 5000,
        b'"unknown": ' + b"[" * DEEP + b"]" * DEEP,
        b'"unknown": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'"stop": ' + b"[" * DEEP + b"]" * DEEP,
        b'"temperature": 0.1, "temperature": 0.2',
        b'"metadata": {"a": 1, "a": 2}',
        b'"temperature" 1',
    ],
    ids=lambda field: field[:40].decode(errors="replace"),
)
def test_hostile_members(client: httpx.Client, path: str, field: bytes) -> None:
    refused(client.post(path, content=raw(path, field)))


def test_a_name_given_twice_is_told(client: httpx.Client) -> None:
    error = refused(client.post(PATHS[1], content=raw(PATHS[1], b'"n": 1, "n": 2')))
    assert error["param"] == "n"
    assert error["message"] == "`n` is given twice"


def test_a_name_given_twice_among_very_many_is_told(client: httpx.Client) -> None:
    # To look for each of them in all the others would take minutes, and hours in larger bodies.
    many = ",".join(f'"{n}":0' for n in range(90_000))
    error = refused(
        client.post(PATHS[1], content=raw(PATHS[1], f'"x":{{{many},"n":1,"n":2}}'.encode()))
    )
    assert error["message"] == "`n` is given twice"


WRONG: list[tuple[str, Any]] = [
    *((name, value) for name in NUMBERS.split() for value in ("0.5", True, [], {}, 1e9, -1e9)),
    *((name, value) for name in INTEGERS.split() for value in ("1", True, [], {}, 0.5, 10**30)),
    *((name, -(2**63) - 1) for name in INTEGERS.split()),
    ("n", 0), ("n", -1), ("n", 129), ("max_tokens", 0), ("max_tokens", -5), ("top_k", -1),
    ("top_p", 1.1), ("top_p", -0.1), ("temperature", -0.1), ("temperature", 101),
    ("presence_penalty", 2.1), ("frequency_penalty", -2.1), ("repeat_penalty", 0),
    ("stop", 1), ("stop", ""), ("stop", [""]), ("stop", ["a"] * 17), ("stop", "x" * 257),
    ("stop", [1]), ("stop", {}), ("logit_bias", []), ("logit_bias", {"a": 1}),
    ("logit_bias", {"1": 101}), ("logit_bias", {"1": "x"}), ("logit_bias", {"-1": 1}),
    ("logit_bias", {str(n): 1 for n in range(1025)}),
    ("stream", 1), ("stream", "true"), ("stream_options", True),
    ("stream_options", {"include_usage": "yes"}), ("model", 1), ("model", {}), ("ignore_eos", 1),
    ("grammar", 1), ("grammar", "x" * 65537), ("seed", 2**63), ("mirostat", 3),
]  # fmt: skip


def test_a_wrong_choice_is_told_the_others(client: httpx.Client) -> None:
    body = {"messages": [{"role": "system", "content": "x"}, {"role": "boss", "content": "y"}]}
    assert refused(client.post("/v1/chat/completions", json=body))["message"] == (
        "`messages[1].role`: 'boss' is none of 'assistant', 'developer', 'function', 'system',"
        " 'tool', 'user'"
    )
    body = {"input": "x", "encoding_format": "hex"}
    assert refused(client.post("/v1/embeddings", json=body))["message"] == (
        "`encoding_format`: 'hex' is none of 'base64', 'float'"
    )


@pytest.mark.parametrize("path", PATHS)
def test_wrong_values_name_their_parameter(client: httpx.Client, path: str) -> None:
    known = [each for each in WRONG if each[0] in KINDS[path].__struct_fields__]
    assert len(known) > 100
    for name, value in known:
        error = refused(client.post(path, json={**GOOD[path], name: value}))
        assert (error["param"] or "").split(".")[0].split("[")[0] == name, (name, value, error)
        assert error["message"].startswith(f"`{error['param']}`"), (name, value, error)


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("messages", None, "messages"),
        ("messages", [], "messages"),
        ("messages", "hi", "messages"),
        ("messages", {}, "messages"),
        ("messages", [1], "messages[0]"),
        ("messages", [{}], "messages[0].role"),
        ("messages", [{"role": "king", "content": "hi"}], "messages[0].role"),
        ("messages", [{"role": 1, "content": "hi"}], "messages[0].role"),
        ("messages", [{"role": "user", "content": 1}], "messages[0].content"),
        ("messages", [{"role": "user", "content": [1]}], "messages[0].content[0]"),
        ("messages", [{"role": "user", "content": [{}]}], "messages[0].content[0].type"),
        ("messages", [{"role": "user", "content": None}], "messages[0].content"),
        ("messages", [{"role": "assistant", "tool_calls": [{}]}],
         "messages[0].tool_calls[0].function"),
        ("logprobs", 1, "logprobs"),
        ("top_logprobs", 21, "top_logprobs"),
        ("top_logprobs", -1, "top_logprobs"),
        ("max_completion_tokens", 0, "max_completion_tokens"),
        ("response_format", "json", "response_format"),
        ("response_format", {}, "response_format.type"),
        ("tools", {}, "tools"),
        ("tools", [{}], "tools[0].type"),
        ("tools", [{"type": "function", "function": {"name": ""}}], "tools[0].function.name"),
        ("tool_choice", 1, "tool_choice"),
        ("chat_template_kwargs", [], "chat_template_kwargs"),
        ("reasoning_effort", 1, "reasoning_effort"),
    ],
)  # fmt: skip
def test_wrong_values_of_chat(client: httpx.Client, name: str, value: Any, param: str) -> None:
    error = refused(client.post(PATHS[0], json={**GOOD[PATHS[0]], name: value}))
    assert error["param"] == param


@pytest.mark.parametrize("path", PATHS)
def test_too_large_a_body(client: httpx.Client, path: str) -> None:
    error = refused(client.post(path, content=b"x" * (2**20 + 1)), 413)
    assert error.get("code", "payload_too_large") == "payload_too_large"
    assert error["type"] in ("invalid_request_error", "request_too_large")
    assert "1 MiB" in error["message"]

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 2**16

    refused(client.post(path, content=endless()), 413)


def test_text_of_any_kind_comes_through() -> None:
    text = "\0 \u2028 \U0001f600 \x1b[2J <|im_end|> {{ 7 * 7 }} \ufeff"

    def script(request: Request) -> str:
        return bytes(request.prompt[1:]).decode()

    with FakeHost(script) as echo, serving(echo) as client:
        found = client.post(PATHS[1], json={"prompt": text}).json()
        assert found["choices"][0]["text"] == text
        body = {"messages": [{"role": "user", "content": text}]}
        found = client.post(PATHS[0], json=body).json()
        assert text in found["choices"][0]["message"]["content"]
