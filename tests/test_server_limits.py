"""Limits, priorities, deadlines and progress, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import real
from fakes import FakeHost
from serving import config, events, eventually, serving

from llmengine.errors import EngineOverloaded
from llmengine.keys import KeyFile, generated

BODY = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


class Keys:
    """A file of keys, and headers with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] = []

    def add(self, **fields: Any) -> dict[str, str]:
        secret, key = generated(**fields)
        KeyFile(str(self.path)).add(key)
        self.ids.append(key.id)
        return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost() as host:
        yield host


def refused(response: httpx.Response) -> tuple[int, str, int]:
    wait = int(response.headers["retry-after"])
    return response.status_code, response.json()["error"]["code"], wait


def test_too_many_requests(host: FakeHost, keys: Keys) -> None:
    one, other = keys.add(requests_per_minute=2), keys.add()
    with serving(host, config(keys_file=str(keys.path))) as client:
        first = client.post(CHAT, json=BODY, headers=one)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        stream = client.post(CHAT, json={**BODY, "stream": True}, headers=one)
        assert stream.headers["x-ratelimit-remaining-requests"] == "0"
        again = client.post(CHAT, json=BODY, headers=one)
        status, code, wait = refused(again)
        assert (status, code) == (429, "rate_limit_exceeded")
        assert 1 <= wait <= 30
        assert again.json()["error"]["type"] == "rate_limit_error"
        assert again.headers["x-ratelimit-remaining-requests"] == "0"
        free = client.post(CHAT, json=BODY, headers=other)
        assert free.status_code == 200
        assert not [name for name in free.headers if name.startswith("x-ratelimit")]
        assert client.get("/v1/models", headers=one).status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
def test_too_many_tokens(host: FakeHost, keys: Keys, path: str) -> None:
    body = BODY if path == CHAT else {"input": "x" * 30}
    one = keys.add(tokens_per_minute=30)
    with serving(host, config(keys_file=str(keys.path))) as client:
        first = client.post(path, json=body, headers=one)
        assert first.status_code == 200
        spent = first.json()["usage"]["total_tokens"]
        assert spent >= 30
        status, code, wait = refused(client.post(path, json=body, headers=one))
        assert (status, code) == (429, "rate_limit_exceeded")
        assert spent - 30 <= wait / 2 + 1 <= spent  # half a token comes back each second


def test_the_official_client_waits_as_told(host: FakeHost, keys: Keys) -> None:
    one = keys.add(requests_per_minute=60)
    with serving(host, config(keys_file=str(keys.path))) as client:
        for _ in range(60):
            client.post(CHAT, json={}, headers=one)
        secret = one["Authorization"].removeprefix("Bearer ")
        with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key=secret) as official:
            answer = official.chat.completions.create(model="fake", **BODY)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == "Hello, world!"


def test_answers_at_a_time(host: FakeHost, keys: Keys) -> None:
    one = keys.add(max_concurrent=1)
    with serving(host, config(keys_file=str(keys.path))) as client, ThreadPoolExecutor(1) as pool:
        host.hold()
        running = pool.submit(client.post, CHAT, json=BODY, headers=one)
        assert eventually(lambda: host.running == 1)
        assert refused(client.post(CHAT, json=BODY, headers=one))[:2] == (
            429,
            "rate_limit_exceeded",
        )
        host.release()
        assert running.result().status_code == 200
        assert client.post(CHAT, json=BODY, headers=one).status_code == 200


def test_more_answers_than_there_will_ever_be_room_for(host: FakeHost, keys: Keys) -> None:
    few, free = keys.add(max_concurrent=2), keys.add()
    settings = config(keys_file=str(keys.path), max_concurrent_requests=2, max_queue=6)
    with serving(host, settings) as client:
        for key, most in ((few, 2), (free, 8)):
            answer = client.post(CHAT, json={**BODY, "n": most + 1}, headers=key)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "n"
            assert f"{most} may be under way at a time" in answer.json()["error"]["message"]
            assert client.post(CHAT, json={**BODY, "n": most}, headers=key).status_code == 200


def test_a_burst_of_one_key_leaves_places_for_another(host: FakeHost, keys: Keys) -> None:
    one, other = keys.add(), keys.add()
    settings = config(keys_file=str(keys.path), max_concurrent_requests=2, max_queue=6)
    with serving(host, settings) as client, ThreadPoolExecutor(9) as pool:
        host.hold()
        burst = [pool.submit(client.post, CHAT, json=BODY, headers=one) for _ in range(8)]
        assert eventually(lambda: sum(each.done() for each in burst) == 4)
        single = pool.submit(client.post, CHAT, json=BODY, headers=other)
        assert eventually(lambda: host.running == 5)
        host.release()
        assert single.result().status_code == 200
        statuses = sorted(each.result().status_code for each in burst)
        assert statuses == [200] * 4 + [429] * 4


def test_a_full_queue_says_when_to_come_again(host: FakeHost) -> None:
    with serving(host) as client:
        for error in (
            EngineOverloaded("full", retry_after=11.2),
            EngineOverloaded("full", retry_after=0.0),
            EngineOverloaded("full"),
        ):
            host.refuse = error
            found = refused(client.post(CHAT, json={**BODY, "stream": True}))
            assert found == (503, "engine_overloaded", 12 if error.retry_after == 11.2 else 1)


def test_tenants_and_priorities_reach_the_engine(host: FakeHost, keys: Keys) -> None:
    usual, batch = keys.add(), keys.add(priority=5)
    with serving(host, config(keys_file=str(keys.path))) as client:
        for headers, asked, wanted in (
            (usual, None, 0),
            (usual, 3, 3),
            (usual, -8, 0),  # no more urgent than its key
            (batch, None, 5),
            (batch, 0, 5),
            (batch, 8, 8),
        ):
            body = {**BODY, "priority": asked}
            assert client.post(CHAT, json=body, headers=headers).status_code == 200
            assert host.requests[-1].priority == wanted
            assert host.requests[-1].tenant == keys.ids[headers is batch]
        for path, body in (
            ("/v1/responses", {"input": "hi"}),
            ("/v1/messages", {**BODY, "max_tokens": 5}),
        ):
            assert client.post(path, json={**body, "priority": 2}, headers=usual).is_success
            assert host.requests[-1].priority == 2
        for wrong in (9, -9, 0.5, "high"):
            found = client.post(CHAT, json={**BODY, "priority": wrong}, headers=usual)
            assert found.json()["error"]["param"] == "priority"


def test_without_keys_anybody_may_be_urgent(host: FakeHost) -> None:
    with serving(host) as client:
        client.post(CHAT, json={**BODY, "priority": -8})
        assert (host.requests[-1].priority, host.requests[-1].tenant) == (-8, "")


# Deadlines

LATE = {"timeout": 300}


@pytest.mark.parametrize(
    ("settings", "body", "headers"),
    [
        ({}, {"timeout": 0.05}, {}),
        ({}, LATE, {"X-Request-Timeout": "0.05"}),
        ({"request_timeout_seconds": 0.05}, LATE, {"X-Request-Timeout": "300"}),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_the_soonest_deadline_counts(
    host: FakeHost, settings: dict[str, Any], body: dict[str, Any], headers: dict[str, str],
    path: str,
) -> None:  # fmt: skip
    bodies = {
        CHAT: BODY,
        "/v1/responses": {"input": "hi"},
        "/v1/messages": {**BODY, "max_tokens": 4000},
        "/v1/embeddings": {"input": "hi"},
    }
    host.answer = "x" * 4000
    host.delay = 0.01
    if path == "/v1/embeddings":
        host.hold()
    with serving(host, config(**settings)) as client:
        response = client.post(path, json={**bodies[path], **body}, headers=headers)
        assert response.status_code == 504, response.text
        if path != "/v1/messages":  # which has no codes
            assert response.json()["error"]["code"] == "deadline_exceeded"
        host.release()


def test_a_deadline_counts_from_the_arrival(host: FakeHost) -> None:
    with serving(host) as client:
        before = time.monotonic()
        client.post(CHAT, json={**BODY, "timeout": 100})
        found = host.requests[-1].deadline
        assert found is not None
        assert before + 99 < found <= time.monotonic() + 100
        client.post(CHAT, json=BODY)
        assert host.requests[-1].deadline is None


@pytest.mark.parametrize("value", ["", "x", "-1", "0", "0.0", "1e3", "1_0", "inf", "nan", "٣"])
def test_deadlines_that_are_none(host: FakeHost, value: str) -> None:
    with serving(host) as client:
        response = client.post(CHAT, json=BODY, headers={b"X-Request-Timeout": value.encode()})
        assert response.status_code == 400
        assert "X-Request-Timeout" in response.json()["error"]["message"]
        for wrong in (0, -1, "x", 1e9):
            found = client.post(CHAT, json={**BODY, "timeout": wrong})
            assert found.json()["error"]["param"] == "timeout"


# Progress


@pytest.mark.model
def test_the_progress_of_a_long_prompt() -> None:
    from llmengine.engine.engine import Engine

    settings = real.config(
        context_size=2048, threads=1, disk=False, prefill_batch=32, max_concurrent_requests=1
    )
    text = "The quick brown fox jumps over the lazy dog. " * 20
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "stream": True}
    with Engine(settings) as engine, serving(engine, settings) as client:
        for more, ask in (({}, False), ({"return_progress": True}, True)):
            chunks = events(client.post(CHAT, json={**body, **more}).text)[:-1]
            told = [each["prompt_progress"] for each in chunks if "prompt_progress" in each]
            assert bool(told) == ask
            engine.cache().clear()  # type: ignore[union-attr]
        assert all(each["choices"] == [] for each in chunks if "prompt_progress" in each)
        total = told[0]["total"]
        assert total > 200
        done = [each["processed"] for each in told]
        assert done == sorted(done)
        assert len(set(done)) >= 4
        assert {(each["total"], each["index"]) for each in told} == {(total, 0)}
        assert told[-1]["queue_position"] == 0
        assert [each["time_ms"] for each in told] == sorted(each["time_ms"] for each in told)
        found = client.post("/v1/completions", json={
            "prompt": text, "max_tokens": 4, "stream": True, "return_progress": True,
        }).text  # fmt: skip
        assert '"prompt_progress":{"index":0,' in found
        # A whole answer has none.
        whole = client.post(CHAT, json={**body, "stream": False, "return_progress": True})
        assert "prompt_progress" not in json.loads(whole.text)
