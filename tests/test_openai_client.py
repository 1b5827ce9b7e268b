"""The official client, against the fake host and against the embedded model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from fakes import FakeHost
from serving import config, eventually, serving

from llmengine.config import Config, ModelConfig
from llmengine.core import Host
from llmengine.errors import EngineOverloaded

HI = [{"role": "user", "content": "hi"}]
Served = Callable[[Host], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def url(host: Host, settings: Config | None = None) -> Iterator[str]:
    with serving(host, settings) as client:
        yield f"{client.base_url}/v1"


def sync(base: str, key: str = "k") -> openai.OpenAI:
    return openai.OpenAI(base_url=base, api_key=key, max_retries=0)


def test_chat() -> None:
    with FakeHost("<think>hm</think>yes") as host, url(host) as base, sync(base) as client:
        found = client.chat.completions.create(model="fake", messages=HI, seed=1, n=2)
        assert [choice.message.content for choice in found.choices] == ["yes", "yes"]
        assert found.choices[0].message.reasoning_content == "hm"
        assert found.choices[0].finish_reason == "stop"
        assert found.usage.completion_tokens == 40
        assert found.usage.prompt_tokens_details.cached_tokens > 0
        assert found._request_id.startswith("req_")


def test_chat_stream() -> None:
    with FakeHost() as host, url(host) as base, sync(base) as client:
        stream = client.chat.completions.create(
            model="fake", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert chunks[0].choices[0].delta.role == "assistant"
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(pieces) == "Hello, world!"
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == 13
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_the_streaming_helper_puts_the_answer_together() -> None:
    with FakeHost() as host, url(host) as base, sync(base) as client:
        with client.chat.completions.stream(
            model="fake", messages=HI, logprobs=True, top_logprobs=1
        ) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.content == "Hello, world!"
        tokens = [each.token for each in final.choices[0].logprobs.content]
        assert "".join(tokens) == "Hello, world!"


def test_completions_and_models() -> None:
    with FakeHost() as host, url(host) as base, sync(base) as client:
        found = client.completions.create(model="fake", prompt=["a", "b"], logprobs=2)
        assert [choice.text for choice in found.choices] == ["Hello, world!"] * 2
        assert found.choices[0].logprobs.tokens[0] == "H"
        stream = client.completions.create(model="fake", prompt="a", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == "Hello, world!"
        assert [model.id for model in client.models.list()] == ["fake"]
        assert client.models.retrieve("fake").owned_by == "llmengine"


def test_errors_become_the_clients_exceptions() -> None:
    with FakeHost() as host, url(host, config(api_key="right")) as base:
        with sync(base, "wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with sync(base, "right") as client:
            with pytest.raises(openai.NotFoundError) as missing:
                client.chat.completions.create(model="gpt-4", messages=HI)
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as bad:
                client.chat.completions.create(model="fake", messages=HI, temperature=-1)
            assert bad.value.param == "temperature"
            host.refuse = EngineOverloaded("the queue is full")
            with pytest.raises(openai.InternalServerError) as full:
                client.chat.completions.create(model="fake", messages=HI, stream=True)
            assert full.value.status_code == 503
            host.refuse = None
            host.failure = EngineOverloaded("no room").info
            with pytest.raises(openai.APIError, match="no room"):
                list(client.chat.completions.create(model="fake", messages=HI, stream=True))


def test_async_streams_side_by_side_and_closed_early() -> None:
    async def whole(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model="fake", messages=HI, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def main(base: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:
            found = await asyncio.gather(*(whole(client) for _ in range(32)))
            host.answer = "x" * 4000
            host.delay = 0.005
            stream = await client.chat.completions.create(model="fake", messages=HI, stream=True)
            async for _ in stream:
                break
            await stream.close()
        return found

    with FakeHost() as host, url(host) as base:
        assert asyncio.run(main(base)) == ["Hello, world!"] * 32
        assert eventually(lambda: host.cancelled)
        assert eventually(lambda: host.running == 0)


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """The embedded model, served."""
    from llmengine.engine.engine import Engine

    path = Path(__file__).parent.parent / "models/tiny-chat.gguf"
    settings = Config(model=ModelConfig(model_path=str(path), name="tiny-chat"))
    with Engine(settings) as engine, url(engine, settings) as base:
        yield base


@pytest.mark.model
def test_the_embedded_model_chats(embedded: str) -> None:
    with sync(embedded) as client:
        found = client.chat.completions.create(
            model="tiny-chat", messages=HI, temperature=0, max_tokens=40
        )
        whole = found.choices[0].message.content
        assert whole
        assert found.usage.prompt_tokens > 4
        stream = client.chat.completions.create(
            model="tiny-chat", messages=HI, temperature=0, max_tokens=40, stream=True
        )
        pieces = [c.choices[0].delta.content or "" for c in stream]
        assert "".join(pieces) == whole


@pytest.mark.model
def test_the_embedded_model_repeats_itself_with_a_seed(embedded: str) -> None:
    with sync(embedded) as client:
        texts = {
            client.completions.create(
                model="tiny-chat", prompt="Once", seed=7, temperature=1.5, max_tokens=20
            )
            .choices[0]
            .text
            for _ in range(3)
        }
        assert len(texts) == 1


@pytest.mark.model
def test_the_embedded_model_answers_in_json(embedded: str) -> None:
    with sync(embedded) as client:
        for seed in range(3):
            found = client.chat.completions.create(
                model="tiny-chat",
                messages=HI,
                response_format={"type": "json_object"},
                temperature=1.5,
                seed=seed,
                max_tokens=2000,
            )
            choice = found.choices[0]
            if choice.finish_reason == "stop":
                assert isinstance(json.loads(choice.message.content), dict)
            else:
                assert choice.message.content.startswith("{")


@pytest.mark.model
def test_the_embedded_models_log_probabilities_are_sorted(embedded: str) -> None:
    with sync(embedded) as client:
        found = client.chat.completions.create(
            model="tiny-chat",
            messages=HI,
            temperature=0,
            max_tokens=5,
            logprobs=True,
            top_logprobs=5,
        )
        for each in found.choices[0].logprobs.content:
            tops = [top.logprob for top in each.top_logprobs]
            assert len(tops) == 5
            assert tops == sorted(tops, reverse=True)
            assert each.logprob == pytest.approx(tops[0])
            assert each.logprob <= 0


@pytest.mark.model
def test_errors_of_the_embedded_model(embedded: str) -> None:
    with sync(embedded) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="tiny-chat", prompt="word " * 50_000)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError):
            client.completions.create(
                model="tiny-chat", prompt="a", extra_body={"grammar": "root ::= ("}
            )
        assert client.completions.create(model="tiny-chat", prompt="a", max_tokens=1).choices


@pytest.mark.model
def test_thirty_two_streams_of_the_embedded_model(embedded: str) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": f"Count to {number % 8}."}],
            temperature=0,
            max_tokens=16,
            stream=True,
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=embedded, api_key="k", max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(32)))

    found = asyncio.run(main())
    assert all(found)
