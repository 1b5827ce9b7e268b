"""The same malformed bodies for every endpoint: each is refused, and the server lives on."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import absurd
import httpx
import pytest
import real
from fakes import FakeHost
from hostile import BATCH, POSTS, SAMPLES, bodies, good
from patience import PATIENCE
from serving import config, serving

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.server.openapi import OPERATIONS, Operation

# What is malformed elsewhere and means something here: no tokens are no text, and a template has
# no use for what is sampled after it.
ANSWERED = {
    "/apply-template": {
        b'{"messages": [{"role": "user", "content": "hi"}], "%b}' % member
        for member in (
            b'logit_bias": {"999999": 1}',
            b'logit_bias": {"99999999999999999999": 1}',
            b'response_format": {"type": "x"}',
            b'response_format": {"type": "json_schema"}',
        )
    },
    "/detokenize": {b'{"tokens": []}'},
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    cache = PromptCache(MemoryTier(1 << 20, 100, 0, LRU()), None)
    settings = config(max_body_mb=2, strict_parameters=True)
    with FakeHost(cache=cache) as host, serving(host, settings) as client:
        # What a batch is made of has to be there.
        form = {"file": ("in.jsonl", BATCH)}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=form)
        SAMPLES["input_file_id"] = file.json()["id"]
        yield client


def refused(response: httpx.Response, body: bytes) -> None:
    shown = f"{body[:120]!r}: {response.text[:300]}"
    assert 400 <= response.status_code < 500, shown
    found = response.json()
    error = found["error"]
    anthropics = response.url.path.startswith("/v1/messages")
    names = {"type", "message"} if anthropics else {"code", "message", "param", "type"}
    assert set(error) == names, shown
    assert not anthropics or found["type"] == "error", shown
    assert error["type"] in ("invalid_request_error", "not_found_error"), shown
    assert error["message"].isprintable(), shown
    assert 0 < len(error["message"]) <= 1000, shown
    assert len(error.get("param") or "") <= 1000, shown


@pytest.mark.parametrize("operation", POSTS, ids=lambda each: each.path)
def test_malformed_bodies_are_refused(client: httpx.Client, operation: Operation) -> None:
    table = list(bodies(operation))
    assert len(table) >= 200
    answered = []
    for body in table:
        response = client.post(operation.path, content=body)
        if response.status_code == 200:
            answered.append(body)
        else:
            refused(response, body)
    assert client.post(operation.path, json=good(operation)).status_code == 200
    assert answered == [each for each in table if each in ANSWERED.get(operation.path, ())]


def test_more_prompts_than_allowed_are_not_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHost() as host, serving(host) as client:
        asked: list[str] = []
        tokenize = host.tokenize
        monkeypatch.setattr(
            host, "tokenize", lambda text, **k: asked.append(text) or tokenize(text)
        )
        body = {"prompt": ["x"] * 100_000}
        response = client.post("/v1/completions", json=body)
        refused(response, b"many prompts")
        assert response.json()["error"]["param"] == "prompt"
        assert asked == []


IDS = [
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cx", "%00", "%ff", "%ed%a0%80", "%F0%9F%99%82", "*",
    "x" * 10_000, "%25", "'%20OR%201--", "%0d%0aX-Evil:1", "-1", "%", "%zz", "..", ".", "%20", "{}",
    "resp_" + "0" * 24, "a?limit=x", "a?limit=%00&order=[]", "a?after=%ff", "a#b", ";", "&", "[]",
]  # fmt: skip


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if "{" in each.path],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_ids_that_nobody_gave(client: httpx.Client, operation: Operation) -> None:
    at = (client.base_url.host, client.base_url.port or 80)
    for id in IDS:
        path = re.sub(r"\{\w+\}", lambda _, id=id: id, operation.path)  # type: ignore[misc]
        head = f"{operation.method.upper()} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        with socket.create_connection(at) as stream:
            stream.settimeout(PATIENCE)
            stream.sendall(f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
            answer = b""
            while chunk := stream.recv(65536):
                answer += chunk
        status = int(answer.split()[1])
        assert 400 <= status < 500 or status == operation.status == 308, (id, answer[:300])
        assert b"\r\nX-Evil" not in answer


@pytest.mark.model
def test_absurd_forms_and_parameters_on_the_embedded_model() -> None:
    from llmengine.engine.engine import Engine

    settings = real.config(context_size=1024, threads=1, disk=False)
    question = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    with Engine(settings) as engine, serving(engine, settings) as client:
        for more in absurd.parameters():
            body = {**question, **more}
            response = client.post("/v1/chat/completions", json=body)
            if response.status_code != 200:
                refused(response, json.dumps(body).encode())
        assert client.post("/v1/chat/completions", json=question).status_code == 200
        assert (engine.stats().running, engine.stats().waiting) == (0, 0)
        engine._slots.check()
