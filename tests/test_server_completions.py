"""POST /v1/completions, on a fake host, through a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fakes import BOS, FakeHost
from serving import events, serving

from llmengine.core import Output, TokenLogprob, Usage
from llmengine.server.completion_format import CompletionFormat
from llmengine.server.format import Head


def complete(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"prompt": "ab", **body})


def test_a_completion(client: httpx.Client, host: FakeHost) -> None:
    found = complete(client, model="fake").json()
    assert found.pop("id").startswith("cmpl-")
    assert found.pop("created") > 1_700_000_000
    assert found.pop("system_fingerprint").startswith("fp_")
    assert found == {
        "object": "text_completion",
        "model": "fake",
        "choices": [
            {"index": 0, "text": "Hello, world!", "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 13,
            "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }
    (request,) = host.requests
    assert request.prompt == (BOS, 97, 98)
    assert request.params.max_tokens is None


def test_a_stream(client: httpx.Client) -> None:
    response = complete(client, stream=True, stream_options={"include_usage": True}, max_tokens=6)
    *chunks, usage, done = events(response.text)
    assert done == "[DONE]"
    assert [chunk["choices"][0] for chunk in chunks] == [
        {"index": 0, "text": "Hell", "logprobs": None, "finish_reason": None},
        {"index": 0, "text": "o,", "logprobs": None, "finish_reason": "length"},
    ]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 9


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("ab", [(BOS, 97, 98)]),
        (["ab"], [(BOS, 97, 98)]),
        (["ab", "c"], [(BOS, 97, 98), (BOS, 99)]),
        ([97, 98], [(97, 98)]),
        ([[97, 98], [99]], [(97, 98), (99,)]),
        (["ab", [99]], [(BOS, 97, 98), (99,)]),
        ("", [(BOS,)]),
    ],
)
def test_prompts_of_every_shape(
    client: httpx.Client, host: FakeHost, prompt: Any, tokens: list[tuple[int, ...]]
) -> None:
    found = complete(client, prompt=prompt).json()
    assert [request.prompt for request in host.requests] == tokens
    assert [choice["index"] for choice in found["choices"]] == list(range(len(tokens)))
    assert found["usage"]["prompt_tokens"] == sum(map(len, tokens))


def test_several_prompts_with_several_answers() -> None:
    def script(request: Any) -> str:
        return f"{bytes(request.prompt[1:]).decode()}-{request.params.seed}"

    with FakeHost(script) as host, serving(host) as client:
        found = complete(client, prompt=["a", "b"], n=2, seed=5).json()
        texts = [(choice["index"], choice["text"]) for choice in found["choices"]]
        assert texts == [(0, "a-5"), (1, "a-6"), (2, "b-5"), (3, "b-6")]
        assert found["usage"]["prompt_tokens"] == 4
        assert found["usage"]["completion_tokens"] == 12


def test_echo(client: httpx.Client) -> None:
    assert complete(client, echo=True).json()["choices"][0]["text"] == "abHello, world!"
    tokens = complete(client, prompt=[99, 100], echo=True).json()
    assert tokens["choices"][0]["text"] == "cdHello, world!"
    chunks = events(complete(client, echo=True, stream=True).text)[:-1]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abHello, world!"


def test_logprobs(client: httpx.Client) -> None:
    (choice,) = complete(client, logprobs=1, max_tokens=2).json()["choices"]
    assert choice["logprobs"] == {
        "tokens": ["H", "e"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"H": -0.5}, {"e": -0.5}],
        "text_offset": [0, 1],
    }
    (choice,) = complete(client, logprobs=0, max_tokens=2).json()["choices"]
    assert choice["logprobs"]["top_logprobs"] is None


def test_logprobs_of_pieces_of_characters() -> None:
    with FakeHost("aé!") as host, serving(host) as client:
        (choice,) = complete(client, logprobs=0).json()["choices"]
        assert choice["logprobs"]["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "!"]
        assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2]
        chunks = events(complete(client, logprobs=0, stream=True).text)[:-1]
        offsets = [o for chunk in chunks for o in chunk["choices"][0]["logprobs"]["text_offset"]]
        assert offsets == [0, 1, 1, 2]


def test_suffix_is_refused_by_a_model_that_cannot_fill_in(client: httpx.Client) -> None:
    response = complete(client, suffix="end")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "suffix"
    assert response.json()["error"]["message"] == "`suffix`: fake has no tokens for filling in"
    assert complete(client, suffix="").status_code == 200


def test_what_is_missing_before_a_suffix_is_filled_in() -> None:
    with FakeHost(infill=True) as host, serving(host) as client:
        assert complete(client, suffix="z").json()["choices"][0]["text"] == "Hello, world!"
        assert complete(client, prompt=[97], suffix="z").status_code == 200
        assert complete(client, prompt="", suffix="<s>").status_code == 200
        assert [request.prompt for request in host.requests] == [
            (BOS, 1, 97, 98, 2, ord("z"), 3),
            (BOS, 1, 97, 2, ord("z"), 3),
            (BOS, 1, 2, *b"<s>", 3),
        ]
        echoed = complete(client, suffix="z", echo=True).json()
        assert echoed["choices"][0]["text"] == "abHello, world!"
        long = complete(client, suffix="z" * 100_000)
        assert long.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [258]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": None}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_refusals_name_the_parameter(
    client: httpx.Client, host: FakeHost, body: dict[str, Any], param: str
) -> None:
    response = complete(client, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert host.requests == []


def test_best_of_may_equal_n(client: httpx.Client) -> None:
    assert len(complete(client, best_of=2, n=2).json()["choices"]) == 2


def test_the_likeliest_of_several_are_told(client: httpx.Client, host: FakeHost) -> None:
    found = complete(client, best_of=3, n=2, prompt=["ab", "cd"], echo=True, seed=1).json()
    texts = [each["text"] for each in found["choices"]]
    assert texts == ["abHello, world!"] * 2 + ["cdHello, world!"] * 2
    assert {each["logprobs"] for each in found["choices"]} == {None}
    assert [each.params.logprobs for each in host.requests] == [0] * 6
    assert [each.params.seed for each in host.requests] == [1, 2, 3] * 2
    assert found["usage"]["completion_tokens"] == 6 * 13

    def likely(text: str, *logprobs: float) -> list[Output]:
        tokens = tuple(TokenLogprob(1, b"a", each) for each in logprobs)
        return [Output("a", text, (1,), tokens), Output("a", finish_reason="stop")]

    format = CompletionFormat(
        Head("a", 1, "m", "fp"), ["", "", "", ""], prompts=2, logprobs=None, usage=False
    )
    outputs = [
        likely("a", -2), likely("long", -1, -1, -1), likely("b", -1.5),
        likely("c", -0.1), likely("d", -0.3), likely("e", -0.2),
    ]  # fmt: skip
    whole = asyncio.run(format.whole(outputs, Usage(1, 1)))
    assert [each.text for each in whole.choices] == ["long", "b", "c", "e"]
