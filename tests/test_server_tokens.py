"""Tokens, templates and gaps over HTTP, and what is told of fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf_files
import httpx
import pytest
import real
from fakes import BOS, FakeHost
from serving import config, serving

from llmengine.chat import prompt
from llmengine.server import tokens


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with FakeHost() as host, serving(host) as client:
        yield client


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error"
    return dict(error)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": "é!"}, [0xC3, 0xA9, 33]),
        ({"content": "", "add_special": None}, []),
        ({"content": "a", "add_special": True}, [BOS, 97]),
        ({"content": "<s>a"}, [BOS, 97]),
        ({"content": "<s>", "parse_special": False}, list(b"<s>")),
        ({"prompt": "a"}, [BOS, 97]),
        ({"prompt": "a", "add_special_tokens": False, "model": "fake"}, [97]),
    ],
)
def test_tokenize(client: httpx.Client, body: dict[str, Any], expected: list[int]) -> None:
    found = client.post("/tokenize", json=body)
    assert found.status_code == 200
    assert found.json() == {"tokens": expected, "count": len(expected), "max_model_len": 4096}


def test_tokens_with_their_pieces(client: httpx.Client) -> None:
    body = {"content": "aé", "with_pieces": True, "add_special": True, "return_token_strs": True}
    assert client.post("/tokenize", json=body).json() == {
        "tokens": [
            {"id": BOS, "piece": "<s>"},
            {"id": 97, "piece": "a"},
            {"id": 0xC3, "piece": [0xC3]},
            {"id": 0xA9, "piece": [0xA9]},
        ],
        "count": 4,
        "max_model_len": 4096,
        "token_strs": ["<s>", "a", "\ufffd", "\ufffd"],
    }


def test_detokenize(client: httpx.Client) -> None:
    found = client.post("/detokenize", json={"tokens": [0xC3, 0xA9, 33]}).json()
    assert found == {"content": "é!", "prompt": "é!"}
    assert client.post("/detokenize", json={"tokens": []}).json()["content"] == ""


def test_apply_template(client: httpx.Client) -> None:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "chat_template_kwargs": {"enable_thinking": True},
    }
    assert client.post("/apply-template", json=body).json() == {
        "prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": "a", "prompt": "a"}, "content"),
        ("/tokenize", {"content": 1}, "content"),
        ("/tokenize", {"content": ["a"]}, "content"),
        ("/tokenize", {"content": "a" * (tokens.MAX_LENGTH + 1)}, "content"),
        ("/tokenize", {"content": "a", "with_pieces": 1}, "with_pieces"),
        ("/tokenize", {"content": "a", "model": "gpt-4"}, "model"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens[0]"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [258]}, "tokens"),
        ("/detokenize", {"tokens": [2**31]}, "tokens[0]"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": []}, "messages"),
        ("/apply-template", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ],
)
def test_wrong_values_name_their_parameter(
    client: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    status = 404 if param == "model" else 400
    assert refused(client.post(path, json=body), status)["param"] == param


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/apply-template"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":' * 9999, b"null", b"NaN"])
def test_what_is_no_json_object_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    refused(client.post(path, content=body))


def test_unknown_parameters_are_told() -> None:
    body = {"content": "a", "colour": "red"}
    with FakeHost() as host:
        with serving(host) as client:
            found = client.post("/tokenize", json=body)
            assert (found.status_code, found.headers["x-unknown-parameters"]) == (200, "colour")
        with serving(host, config(strict_parameters=True)) as client:
            assert refused(client.post("/tokenize", json=body))["param"] == "colour"


@pytest.mark.parametrize("path", ["", "/jobs", "/jobs/ftjob-1/cancel", "/checkpoints/x/y"])
def test_fine_tuning_says_what_to_do_instead(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        error = refused(client.request(method, f"/v1/fine_tuning{path}"), 501)
        assert error["code"] == "not_offered"
        assert "merge LoRA adapters" in error["message"]


@pytest.mark.model
def test_the_embedded_models_tokens() -> None:
    from llmengine.engine.engine import Engine

    settings = real.config(context_size=512)
    with Engine(settings) as engine, serving(engine, settings) as client:
        text = "Hello, <|im_end|>wörld! 🙂"
        found = client.post("/tokenize", json={"content": text, "with_pieces": True}).json()
        ids = [each["id"] for each in found["tokens"]]
        assert {"id": 983, "piece": "<|im_end|>"} in found["tokens"]
        assert client.post("/detokenize", json={"tokens": ids}).json()["content"] == text


@pytest.mark.model
def test_a_vocabulary_with_marks_for_a_gap_fills_it(tmp_path: Path) -> None:
    from llmengine.engine.engine import Engine

    marks = {
        f"tokenizer.ggml.{name}_token_id": 984 + at
        for at, name in enumerate(("fim_pre", "fim_suf", "fim_mid"))
    }
    model = gguf_files.varied(real.MODEL, tmp_path / "fim.gguf", marks)
    settings = real.config(model, context_size=512)
    with Engine(settings) as engine, serving(engine, settings) as client:
        before, after = engine.tokenize("def f("), engine.tokenize("<|im_end|>)")
        assert prompt.of_gap(engine, "def f(", "<|im_end|>)").tokens == (
            984, *before, 985, *after, 986,
        )  # fmt: skip
        assert 983 not in after
        body = {"prompt": "def f(", "suffix": "<|im_end|>)", "max_tokens": 4}
        found = client.post("/v1/completions", json=body).json()
        assert found["usage"]["prompt_tokens"] == len(before) + len(after) + 3
        assert found["usage"]["completion_tokens"] == 4
    settings = real.config(context_size=512)
    with Engine(settings) as engine, serving(engine, settings) as client:
        error = refused(client.post("/v1/completions", json=body))
        assert (error["param"], error["code"]) == ("suffix", "unsupported_parameter")
