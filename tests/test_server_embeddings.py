"""POST /v1/embeddings and /v1/rerank, on a fake host, through a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from fakes import BOS, EOS, FakeHost
from patience import PATIENCE
from serving import config, eventually, serving

from llmengine.errors import EngineOverloaded
from llmengine.server import embeddings

EMBED = "/v1/embeddings"
HALF = math.sqrt(0.5)


@pytest.fixture
def client(host: FakeHost) -> Iterator[httpx.Client]:
    with serving(host, config(max_body_mb=4)) as client:
        yield client


@pytest.fixture
def ranker() -> Iterator[httpx.Client]:
    with FakeHost(ranks=True) as host, serving(host) as client:
        yield client


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    return dict(error)


def test_an_embedding(client: httpx.Client, host: FakeHost) -> None:
    response = client.post(EMBED, json={"input": "a b", "model": "fake", "user": "me"})
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": pytest.approx([HALF, HALF, 0, 0])}
        ],
        "model": "fake",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert "x-unknown-parameters" not in response.headers
    assert [inputs for inputs, _ in host.embedded] == [[(BOS, *b"a b")]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], [(BOS, 97), (BOS, 98)]),
        ([97, 98], [(97, 98)]),
        ([[97], [98, 99]], [(97,), (98, 99)]),
        (["a", [98]], [(BOS, 97), (98,)]),
    ],
)
def test_kinds_of_input(client: httpx.Client, host: FakeHost, given: Any, expected: Any) -> None:
    found = client.post(EMBED, json={"input": given}).json()
    assert [each["index"] for each in found["data"]] == list(range(len(expected)))
    ((inputs, _),) = host.embedded
    assert inputs == expected
    assert found["usage"]["total_tokens"] == sum(map(len, expected))


def test_base64_is_little_endian_float32(client: httpx.Client) -> None:
    body = {"input": "ab", "encoding_format": "base64"}
    found = client.post(EMBED, json=body).json()["data"][0]["embedding"]
    values = struct.unpack("<4f", base64.b64decode(found))
    assert values == pytest.approx([HALF, HALF, 0, 0])


def test_fewer_dimensions_are_of_length_one_again(client: httpx.Client) -> None:
    def embedding(text: str, dimensions: int) -> list[float]:
        body = {"input": text, "dimensions": dimensions}
        found: list[float] = client.post(EMBED, json=body).json()["data"][0]["embedding"]
        return found

    assert embedding("abcd", 4) == pytest.approx([0.5] * 4)
    assert embedding("abcd", 2) == pytest.approx([HALF, HALF])
    assert embedding("cd", 2) == [0.0, 0.0]
    error = refused(client.post(EMBED, json={"input": "a", "dimensions": 5}))
    assert error["param"] == "dimensions"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "input"),
        (b'{"input": null}', "input"),
        (b'{"input": ""}', "input"),
        (b'{"input": []}', "input"),
        (b'{"input": [[]]}', "input[0]"),
        (b'{"input": ["a", ""]}', "input"),
        (b'{"input": ["a", 1]}', "input"),
        (b'{"input": [1.5]}', "input[0]"),
        (b'{"input": [true]}', "input[0]"),
        (b'{"input": [null]}', "input[0]"),
        (b'{"input": {"text": "a"}}', "input"),
        (b'{"input": 1}', "input"),
        (b'{"input": [-1]}', "input[0]"),
        (b'{"input": [258]}', "input"),
        (b'{"input": [[97], [999999]]}', "input"),
        (b'{"input": [99999999999999999999]}', "input[0]"),
        (b'{"input": "a", "dimensions": 0}', "dimensions"),
        (b'{"input": "a", "dimensions": 1e9}', "dimensions"),
        (b'{"input": "a", "dimensions": "4"}', "dimensions"),
        (b'{"input": "a", "encoding_format": "int8"}', "encoding_format"),
        (b'{"input": "a", "encoding_format": 1}', "encoding_format"),
        (b'{"input": "a", "input": "b"}', "input"),
        (b'{"input": "a", "dimensions": NaN}', None),
        (b'{"input": [NaN]}', None),
        (b'{"input": "\\ud800"}', None),
        (b'{"input": ' + b"[" * 9999, None),
        (b'{"input": "\xff"}', None),
        (b"", None),
        (b"[]", None),
    ],
)
def test_hostile_bodies(
    client: httpx.Client, host: FakeHost, body: bytes, param: str | None
) -> None:
    error = refused(client.post(EMBED, content=body))
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert host.embedded == []


def test_too_much_is_refused_and_never_cut(client: httpx.Client, host: FakeHost) -> None:
    for text in ("a" * 4096, "a" * 100_000, [97] * 4097):
        error = refused(client.post(EMBED, json={"input": text}))
        assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert client.post(EMBED, json={"input": ["a"] * embeddings.MAX_INPUTS}).status_code == 200
    error = refused(client.post(EMBED, json={"input": ["a"] * (embeddings.MAX_INPUTS + 1)}))
    assert "2049 items" in error["message"]
    error = refused(client.post(EMBED, json={"input": ["a" * 3000] * 101}))
    assert "more than 300000 tokens" in error["message"]
    refused(client.post(EMBED, content=b'{"input": "' + b"a" * (5 << 20) + b'"}'), 413)
    assert len(host.embedded) == 1


def test_a_full_queue_is_told(client: httpx.Client, host: FakeHost) -> None:
    host.refuse = EngineOverloaded("the queue is full")
    response = client.post(EMBED, json={"input": "a"})
    assert refused(response, 503)["code"] == "engine_overloaded"
    assert response.headers["retry-after"] == "1"


def test_what_a_client_no_longer_waits_for_is_cancelled(
    client: httpx.Client, host: FakeHost
) -> None:
    host.hold()
    # Long enough to be sent by a busy machine; then nobody reads the answer.
    with pytest.raises(httpx.ReadTimeout):
        client.post(EMBED, json={"input": "a"}, timeout=httpx.Timeout(PATIENCE, read=0.3))
    assert eventually(lambda: host.embedded)
    assert eventually(lambda: host.embedded[0][1].cancelled())
    host.release()
    assert client.post(EMBED, json={"input": "a"}).status_code == 200


def test_a_deadline(host: FakeHost) -> None:
    with serving(host, config(request_timeout_seconds=0.2)) as client:
        host.hold()
        assert refused(client.post(EMBED, json={"input": "a"}), 504)["code"] == "deadline_exceeded"
        assert host.embedded[0][1].cancelled()


def test_the_official_client(host: FakeHost) -> None:
    async def one(client: openai.AsyncOpenAI, text: str) -> list[float]:
        found = await client.embeddings.create(model="fake", input=text)
        return found.data[0].embedding

    async def many(base: str) -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:
            return await asyncio.gather(*(one(client, letter) for letter in "abcd" * 8))

    with serving(host) as http:
        base = f"{http.base_url}/v1"
        with openai.OpenAI(base_url=base, api_key="k", max_retries=0) as client:
            # It asks for base64 and decodes that, unless floats are asked for.
            packed = client.embeddings.create(model="fake", input=["ab", "d"])
            assert packed.data[0].embedding == pytest.approx([HALF, HALF, 0, 0])
            assert packed.data[1].embedding == [0, 0, 0, 1]
            assert packed.usage.prompt_tokens == 5
            plain = client.embeddings.create(
                model="fake", input=[[97, 98]], encoding_format="float", dimensions=1
            )
            assert plain.data[0].embedding == [1.0]
            with pytest.raises(openai.BadRequestError) as caught:
                client.embeddings.create(model="fake", input="a" * 9999)
            assert caught.value.code == "context_length_exceeded"
        found = asyncio.run(many(base))
    assert found == [[float(at == index % 4) for at in range(4)] for index in range(32)]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_an_embedding_model_ranks_by_cosine(client: httpx.Client, path: str) -> None:
    body = {
        "model": "fake",
        "query": "ab",
        "documents": ["d", {"text": "aab"}, "a"],
        "top_n": 2,
        "return_documents": True,
    }
    assert client.post(path, json=body).json() == {
        "model": "fake",
        "object": "list",
        "usage": {"prompt_tokens": 11, "total_tokens": 11},
        "results": [
            {
                "index": 1,
                "relevance_score": pytest.approx(3 / math.sqrt(10)),
                "document": {"text": "aab"},
            },
            {"index": 2, "relevance_score": pytest.approx(HALF), "document": {"text": "a"}},
        ],
    }


def test_a_ranking_model_reads_query_and_document_together() -> None:
    with FakeHost(ranks=True) as host, serving(host) as client:
        body = {"query": "q", "documents": ["aaaaa", "b" * 9, "x" * 2000]}
        found = client.post("/rerank", json=body).json()["results"]
        assert host.embedded[0][0][0] == (BOS, ord("q"), EOS, *b"aaaaa", EOS)
        assert found == [
            {"index": 2, "relevance_score": 1.0},
            {"index": 1, "relevance_score": pytest.approx(1 / (1 + math.exp(-3)))},
            {"index": 0, "relevance_score": pytest.approx(1 / (1 + math.exp(1)))},
        ]
        error = refused(client.post(EMBED, json={"input": "a"}))
        assert (error["param"], error["code"]) == ("model", "unsupported_model")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": ["q"]}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "d"}, "documents"),
        ({"documents": [""] * 2049}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"documents": ["d" * 99_999]}, "documents"),
        ({"documents": ["d" * 3000] * 101}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": 1.5}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
def test_what_cannot_be_ranked(
    client: httpx.Client, ranker: httpx.Client, change: dict[str, Any], param: str
) -> None:
    body = {"query": "q", "documents": ["d"], **change}
    for each in (client, ranker):
        assert refused(each.post("/v1/rerank", content=json.dumps(body)))["param"] == param


def test_the_log_has_the_tokens_of_the_input(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "llmengine.server"):
        client.post(EMBED, json={"input": "secret"})
    (line,) = [each for each in caplog.records if each.message == f"{EMBED} 200"]
    assert line.__dict__["prompt_tokens"] == 7
    assert "secret" not in caplog.text
