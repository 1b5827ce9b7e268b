"""The description of the API: complete, valid, and true for what is sent at random."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import schemathesis
from fakes import FakeHost
from hypothesis import given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import config, serving

from llmengine import __version__
from llmengine.cache.memory_tier import MemoryTier
from llmengine.cache.policy import LRU
from llmengine.cache.prompt_cache import PromptCache
from llmengine.server.app import create_app
from llmengine.server.openapi import OPERATIONS, document

UNDESCRIBED = {"/openapi.json", "/docs", "/metrics"}  # and what answers 501 only


def test_every_route_is_described() -> None:
    app = create_app(config())
    routes = {
        (method.lower(), re.sub(r"<(\w+):\w+>", r"{\1}", route.uri))
        for route in app.router.routes
        for method in route.methods
        if method not in ("HEAD", "OPTIONS") and "fine_tuning" not in route.uri
    }
    described = {(each.method, each.path) for each in OPERATIONS}
    assert {each for each in routes if each[1] not in UNDESCRIBED} == described


def test_the_document_says_what_the_types_say() -> None:
    found = document()
    assert found["info"]["version"] == __version__
    chat = found["paths"]["/v1/chat/completions"]["post"]
    assert chat["operationId"] == "post_v1_chat_completions"
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ChatBody"}
    body = found["components"]["schemas"]["ChatBody"]
    assert body["required"] == ["messages"]
    assert body["properties"]["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 128}
    ids = [each.id for each in OPERATIONS]
    assert len(set(ids)) == len(ids)


def test_document_and_page_need_no_key() -> None:
    with FakeHost() as host, serving(host, config(api_key="k")) as client:
        assert client.get("/openapi.json").json() == document()
        page = client.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "/v1/chat/completions" in page.text
        assert "Randomness; 0 takes the likeliest token." in page.text
        assert "<script" not in page.text
        assert client.get("/v1/models").status_code == 401


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    cache = PromptCache(MemoryTier(1 << 20, 100, 0.0, LRU()), None)
    with FakeHost(cache=cache) as host, serving(host) as client:
        yield str(client.base_url)


@pytest.mark.parametrize(
    "operation",
    [
        each.ok()
        for each in schemathesis.openapi.from_dict(document()).get_all_operations()
        if "/v1/engines" not in each.ok().path  # some releases follow where these lead
    ],
    ids=lambda each: each.label,
)
def test_what_is_sent_at_random_gets_a_described_answer(
    operation: APIOperation, address: str
) -> None:
    @settings(max_examples=15, derandomize=True)
    @given(operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict):
            case.body.pop("timeout", None)  # one that is too short is a 504, and rightly
        case.call_and_validate(
            base_url=address,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    check()
