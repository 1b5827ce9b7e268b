"""The same malformed bodies for every endpoint: each is refused, and the server lives on."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fakes import FakeHost
from hostile import POSTS, bodies, good
from serving import config, serving

from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.server.openapi import Operation

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
    assert "\n" not in error["message"], shown
    assert 0 < len(error["message"]) < 700, shown


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
