"""Images by the official clients, in each API, on the embedded model with a random projector."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import tiny_projectors
from media_files import image
from real import config
from serving import serving

from llmengine.core import Media

pytestmark = pytest.mark.model

WIDTH = 256  # of the embedded model
QUESTION = "What is this?"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from llmengine.engine.engine import Engine

    path = tiny_projectors.growing(tmp_path_factory.mktemp("mmproj") / "mmproj.gguf", WIDTH)
    settings = config(mmproj=str(path), disk=False, max_concurrent_requests=4, min_tokens=16)
    with Engine(settings) as engine, serving(engine, settings) as client:
        yield str(client.base_url)


@pytest.fixture
def client(served: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served}/v1", api_key="k", max_retries=0, timeout=60) as client:
        yield client


def encoded(media: Media) -> str:
    return base64.b64encode(media.data).decode()


def chat(media: Media, **more: Any) -> dict[str, Any]:
    url = f"data:image/png;base64,{encoded(media)}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": QUESTION},
    ]
    return {
        "model": "tiny-chat",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 12,
        "temperature": 0,
        **more,
    }


def test_each_api_asks_the_same(client: openai.OpenAI, served: str) -> None:
    media = image(11)
    first = client.chat.completions.create(**chat(media))
    url = f"data:image/png;base64,{encoded(media)}"
    parts = [
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    second = client.responses.create(
        model="tiny-chat",
        input=[{"role": "user", "content": parts}],  # type: ignore[misc,list-item]
        max_output_tokens=12,
        temperature=0,
    )
    source = {"type": "base64", "media_type": "image/png", "data": encoded(media)}
    with anthropic.Anthropic(base_url=served, api_key="k", max_retries=0, timeout=60) as other:
        third = other.messages.create(
            model="tiny-chat",
            max_tokens=12,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": source},  # type: ignore[typeddict-item]
                        {"type": "text", "text": QUESTION},
                    ],
                }
            ],
            extra_body={"temperature": 0},
        )
    assert first.usage is not None
    assert second.usage is not None
    assert first.choices[0].message.content == second.output_text
    prompt = first.usage.prompt_tokens
    # All but the last token of the prompt was known, with the image in it.
    assert second.usage.input_tokens == prompt
    assert second.usage.input_tokens_details.cached_tokens == prompt - 1
    assert third.usage.cache_read_input_tokens is not None
    assert third.usage.cache_read_input_tokens > prompt - 10


def test_streamed_is_whole_and_another_image_is_another(client: openai.OpenAI) -> None:
    asked = chat(image(12), logprobs=True, seed=1)
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    other = client.chat.completions.create(**chat(image(13), logprobs=True, seed=1))

    def chances(answer: Any) -> list[float]:
        return [each.logprob for each in answer.choices[0].logprobs.content]

    assert chances(other) != pytest.approx(chances(whole), abs=1e-4)


def test_a_damaged_image_is_refused(client: openai.OpenAI) -> None:
    media = image(14)
    with pytest.raises(openai.BadRequestError, match="an image is damaged"):
        client.chat.completions.create(**chat(Media("image", media.data[:200])))


def test_many_at_once(client: openai.OpenAI) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> int:
        answer = client.chat.completions.create(**chat(image(20 + number % 4)))
        assert answer.usage is not None
        return answer.usage.completion_tokens

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert all(0 < tokens <= 12 for tokens in answers)


def test_what_the_cache_shows_of_an_image(client: openai.OpenAI) -> None:
    body = chat(image(15))
    shown = client.post("/cache/warm", body={"messages": body["messages"]}, cast_to=object)
    assert isinstance(shown, dict)
    assert shown["prompt_tokens"] > 20
    entries: Any = client.get("/cache/entries", cast_to=object)
    warmed = next(each for each in entries["data"] if each["label"] == "warm")
    entry: Any = client.get(f"/cache/entries/{warmed['id']}", cast_to=object)
    assert "<__media__>" in entry["text"]
