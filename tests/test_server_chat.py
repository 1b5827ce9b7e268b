"""POST /v1/chat/completions, on a fake host, through a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fakes import FakeHost
from serving import config, events, eventually, serving

from llmengine.config import Config, LoggingConfig, ModelConfig
from llmengine.errors import EngineOverloaded, ErrorInfo
from llmengine.sampling import Constraint, SamplingParams

HI = [{"role": "user", "content": "hi"}]
PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def chat(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"messages": HI, **body})


def streamed(client: httpx.Client, **body: Any) -> list[Any]:
    response = chat(client, stream=True, **body)
    assert response.status_code == 200
    return events(response.text)


def refusal(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert list(found) == ["error"]
    assert sorted(found["error"]) == ["code", "message", "param", "type"]
    return dict(found["error"])


def test_an_answer(client: httpx.Client, host: FakeHost) -> None:
    response = chat(client, model="fake", temperature=0.5, max_tokens=100)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found.pop("id").startswith("chatcmpl-")
    assert found.pop("created") > 1_700_000_000
    assert found.pop("system_fingerprint").startswith("fp_")
    assert found == {
        "object": "chat.completion",
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world!", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": len(PROMPT) + 1,
            "completion_tokens": 13,
            "total_tokens": len(PROMPT) + 14,
            "prompt_tokens_details": {"cached_tokens": (len(PROMPT) + 1) // 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    (request,) = host.requests
    assert request.prompt == (256, *PROMPT.encode())
    assert request.params == SamplingParams(temperature=0.5, max_tokens=100)
    assert request.deadline is None
    assert host.running == 0
    assert host.cancelled == []


def test_a_stream(client: httpx.Client) -> None:
    response = chat(client, stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    heads = [
        {name: chunk.pop(name) for name in ("id", "created", "system_fingerprint")}
        for chunk in chunks
    ]
    assert heads == [heads[0]] * len(chunks)

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {"object": "chat.completion.chunk", "model": "fake", "choices": [choice]}

    assert chunks == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hell"}),
        chunk({"content": "o, w"}),
        chunk({"content": "orld"}),
        chunk({"content": "!"}),
        chunk({}, "stop"),
    ]


def test_the_usage_of_a_stream_comes_last_and_without_choices(client: httpx.Client) -> None:
    *chunks, usage, done = streamed(client, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 13
    assert usage["usage"]["prompt_tokens"] == len(PROMPT) + 1


def test_max_tokens_and_stop(client: httpx.Client) -> None:
    (choice,) = chat(client, max_tokens=4).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hell", "length")
    (choice,) = chat(client, max_completion_tokens=5, max_tokens=2).json()["choices"]
    assert choice["message"]["content"] == "Hello"
    for stop in (", w", [", w", "xyz"]):
        (choice,) = chat(client, stop=stop).json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
    assert streamed(client, max_tokens=4)[-2]["choices"][0]["finish_reason"] == "length"


def test_n_answers_with_seeds_of_their_own() -> None:
    with FakeHost(lambda request: f"seed {request.params.seed}") as host, serving(host) as client:
        found = chat(client, n=3, seed=2**32 - 2).json()
        assert [(c["index"], c["message"]["content"]) for c in found["choices"]] == [
            (0, "seed 4294967294"),
            (1, "seed 4294967295"),
            (2, "seed 0"),
        ]
        assert found["usage"]["prompt_tokens"] == len(PROMPT) + 1
        assert found["usage"]["completion_tokens"] == 15 + 15 + 6
        assert len({request.prompt for request in host.requests}) == 1

        *chunks, _ = streamed(client, n=2, seed=5)
        for index in range(2):
            own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
            assert own[0]["delta"] == {"role": "assistant", "content": ""}
            assert "".join(c["delta"].get("content", "") for c in own) == f"seed {5 + index}"
            assert [c["finish_reason"] for c in own][-1] == "stop"


def test_logprobs(client: httpx.Client) -> None:
    (choice,) = chat(client, logprobs=True, top_logprobs=2, max_tokens=1).json()["choices"]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "H",
                "logprob": -0.5,
                "bytes": [72],
                "top_logprobs": [
                    {"token": "H", "logprob": -0.5, "bytes": [72]},
                    {"token": "I", "logprob": -1.5, "bytes": [73]},
                ],
            }
        ],
        "refusal": None,
    }
    *chunks, _ = streamed(client, logprobs=True, stop=", ")
    tokens = [
        token["token"]
        for chunk in chunks
        if chunk["choices"][0]["logprobs"]
        for token in chunk["choices"][0]["logprobs"]["content"]
    ]
    assert tokens == list("Hello")
    error = refusal(chat(client, top_logprobs=2))
    assert error["param"] == "top_logprobs"


def test_reasoning_is_told_apart() -> None:
    with FakeHost("<think>\nhm\n</think>\n\nyes") as host, serving(host) as client:
        (choice,) = chat(client).json()["choices"]
        assert choice["message"] == {
            "role": "assistant",
            "content": "yes",
            "reasoning_content": "hm",
            "refusal": None,
        }
        deltas = [chunk["choices"][0]["delta"] for chunk in streamed(client)[:-1]]
        assert deltas == [
            {"role": "assistant", "content": ""},
            {"reasoning_content": "hm"},
            {"content": "yes"},
            {},
        ]


def test_thinking_that_the_prompt_opened() -> None:
    with FakeHost("hm</think>yes") as host, serving(host) as client:
        (choice,) = chat(client, chat_template_kwargs={"enable_thinking": True}).json()["choices"]
        assert choice["message"]["reasoning_content"] == "hm"
        assert choice["message"]["content"] == "yes"
        assert bytes(host.requests[0].prompt[1:]).endswith(b"<think>\n")


def test_every_sampling_parameter_is_passed_on(client: httpx.Client, host: FakeHost) -> None:
    given = {
        "temperature": 0.1, "top_k": 1, "top_p": 0.2, "min_p": 0.3, "typical_p": 0.4,
        "top_n_sigma": 2.0, "xtc_probability": 0.5, "xtc_threshold": 0.2, "dry_multiplier": 0.6,
        "dry_base": 2.0, "dry_allowed_length": 3, "dry_penalty_last_n": 4, "repeat_penalty": 1.1,
        "repeat_last_n": 5, "presence_penalty": 0.7, "frequency_penalty": -0.7, "mirostat": 2,
        "mirostat_tau": 4.0, "mirostat_eta": 0.2, "seed": 7, "max_tokens": 8, "ignore_eos": True,
        "grammar": 'root ::= "x"',
    }  # fmt: skip
    assert chat(client, **given, stop=["z"], logit_bias={"65": -100}).status_code == 200
    expected = SamplingParams(
        **given,  # type: ignore[arg-type]
        stop=("z",),
        logit_bias={65: -100.0},
        constraint=Constraint("gbnf", 'root ::= "x"'),
    )
    assert host.requests[0].params == expected


def test_defaults_come_from_the_config_and_null_is_absent(host: FakeHost) -> None:
    settings = Config(sampling=SamplingParams(temperature=0.2, max_tokens=3, seed=1))
    with serving(host, settings) as client:
        assert chat(client, temperature=None, stop=None, n=None).status_code == 200
        assert host.requests[0].params == SamplingParams(temperature=0.2, max_tokens=3, seed=1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"store": True}, "store"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"logit_bias": {"258": 1}}, "logit_bias"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    client: httpx.Client, host: FakeHost, body: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        error = refusal(chat(client, **body, stream=stream))
        assert error["param"] == param
        assert error["type"] == "invalid_request_error"
        assert f"`{param}" in error["message"] or param.split("[")[0] in error["message"]
    assert host.requests == []


def test_what_is_refused_but_for_some_values_names_them(client: httpx.Client) -> None:
    message = refusal(chat(client, service_tier="flex"))["message"]
    assert message == '`service_tier` is not offered by this server, but for "auto" or "default"'
    message = refusal(chat(client, web_search_options={}))["message"]
    assert message == "`web_search_options` is not offered by this server"


def test_what_changes_nothing_is_taken(client: httpx.Client) -> None:
    response = chat(
        client,
        user="u",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        modalities=["text"],
        parallel_tool_calls=False,
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_options={"mode": "explicit"},
        moderation=None,
        audio=None,
    )
    assert response.status_code == 200
    assert "x-unknown-parameters" not in response.headers


def test_unknown_parameters_are_told(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for stream in (False, True):
        response = chat(client, temprature=1, **{"a\r\nb": 2}, stream=stream)
        assert response.status_code == 200
        assert response.headers["x-unknown-parameters"] == "temprature, a??b"
    assert caplog.text.count("unknown parameters: temprature") == 2
    many = {f"{n:03}" * 100: n for n in range(500)}
    told = chat(client, **many).headers["x-unknown-parameters"]
    assert told == ", ".join(name[:64] for name in list(many)[:16])


def test_unknown_parameters_are_refused_where_the_config_says_so(host: FakeHost) -> None:
    with serving(host, config(strict_parameters=True)) as client:
        error = refusal(chat(client, temprature=1))
        assert error["param"] == "temprature"
        assert error["code"] == "unknown_parameter"
        assert chat(client, user="u").status_code == 200


def test_only_the_served_model_answers(host: FakeHost) -> None:
    settings = Config(model=ModelConfig(name="alias"))
    with serving(host, settings) as client:
        for name in ("alias", "fake"):
            assert chat(client, model=name).json()["model"] == "alias"
        error = refusal(chat(client, model="gpt-4"), 404)
        assert error == {
            "message": "the model 'gpt-4' is not served here; 'alias' is",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }


def test_too_long_a_prompt(client: httpx.Client) -> None:
    for stream in (False, True):
        for length in (5000, 50_000):  # the longer one is not even tokenized
            long = [{"role": "user", "content": "x" * length}]
            error = refusal(chat(client, messages=long, stream=stream))
            assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


def test_a_full_queue_is_a_503_also_for_streams(client: httpx.Client, host: FakeHost) -> None:
    host.refuse = EngineOverloaded("the queue is full")
    for stream in (False, True):
        response = chat(client, stream=stream)
        assert refusal(response, 503)["code"] == "engine_overloaded"
        assert response.headers["retry-after"] == "1"


def test_what_was_queued_of_n_is_cancelled_when_the_rest_is_refused(
    client: httpx.Client, host: FakeHost
) -> None:
    host.hold()
    host.limit = 2
    assert refusal(chat(client, n=3), 503)["code"] == "engine_overloaded"
    host.release()
    assert len(host.cancelled) == 2
    assert eventually(lambda: host.running == 0)


def test_an_error_after_the_first_byte_is_an_event(client: httpx.Client, host: FakeHost) -> None:
    host.failure = ErrorInfo("OutOfMemory", "no room")
    role, text, error = streamed(client)
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert text["choices"][0]["delta"]["content"] == "Hell"
    assert error == {
        "error": {
            "message": "no room",
            "type": "server_error",
            "param": None,
            "code": "insufficient_resources",
        }
    }
    assert refusal(chat(client), 507)["message"] == "no room"


def test_internal_errors_keep_their_reason_to_the_log(
    client: httpx.Client, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.failure = ErrorInfo("Internal", "secret path")
    headers = {"X-Request-Id": "my-id"}
    response = client.post("/v1/chat/completions", json={"messages": HI}, headers=headers)
    error = refusal(response, 500)
    assert error["message"] == "internal error; the server's log has the reason under my-id"
    told = next(each for each in caplog.records if "secret path" in each.getMessage())
    assert vars(told)["request"] == "my-id"
    assert "secret" not in str(streamed(client))


def test_a_bug_is_a_500_and_the_server_lives_on(
    client: httpx.Client, host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> str:
        raise KeyError("secret")

    host.answer = broken
    error = refusal(chat(client), 500)
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert "Traceback" in caplog.text
    host.answer = "fine"
    assert chat(client).json()["choices"][0]["message"]["content"] == "fine"


def test_a_deadline_is_a_504(host: FakeHost) -> None:
    host.answer = "x" * 4000
    host.delay = 0.01
    with serving(host, config(request_timeout_seconds=0.1)) as client:
        assert refusal(chat(client), 504)["code"] == "deadline_exceeded"
        assert streamed(client)[-1]["error"]["code"] == "deadline_exceeded"


def test_one_log_line_without_the_prompt(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llmengine")
    headers = {"X-Request-Id": "abc"}
    for stream in (False, True):
        caplog.clear()
        body = {"messages": [{"role": "user", "content": "secret"}], "stream": stream}
        client.post("/v1/chat/completions", json=body, headers=headers)
        assert eventually(lambda: caplog.records)
        (line,) = caplog.records
        assert line.getMessage() == "/v1/chat/completions 200"
        fields = vars(line)
        assert fields["request"] == "abc"
        assert fields["completion_tokens"] == 13
        assert fields["cached_tokens"] == fields["prompt_tokens"] // 2
        assert 0 <= fields["ttft"] <= fields["seconds"]
        assert "secret" not in str(fields)


def test_no_log_line_where_the_config_says_so(
    host: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "llmengine")
    with serving(host, Config(logging=LoggingConfig(log_requests=False))) as client:
        for stream in (False, True):
            assert chat(client, stream=stream).status_code == 200
    assert caplog.records == []
