"""Images and sound in requests to the server, on a fake host."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import TEMPLATE, FakeHost
from serving import serving

from llmengine.core import Media

CAT, DOG = b"cat", b"doggy"
IDS = {data: [ord("["), *(-1 - byte for byte in data), ord("]")] for data in (CAT, DOG)}


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(data), "detail": "low"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost("A cat.", media=("image", "audio")) as host:
        yield host


@pytest.fixture
def client(host: FakeHost) -> Iterator[httpx.Client]:
    with serving(host) as client:
        yield client


def chat(client: httpx.Client, *parts: Any, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": list(parts)}], **more}
    return client.post("/v1/chat/completions", json=body)


def around(before: str, *middle: int, after: str) -> tuple[int, ...]:
    """A prompt of one message of the user's."""
    head = f"<|im_start|>user\n{before}".encode()
    tail = f"{after}<|im_end|>\n<|im_start|>assistant\n".encode()
    return (256, *head, *middle, *tail)


def refusal(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_an_image_comes_between_the_text_around_it(client: httpx.Client, host: FakeHost) -> None:
    answer = chat(client, text("What is "), picture(CAT), text("?"))
    assert answer.json()["choices"][0]["message"]["content"] == "A cat."
    (request,) = host.requests
    assert request.prompt == around("What is ", *IDS[CAT], after="?")
    assert request.media == (Media("image", CAT),)
    assert answer.json()["usage"]["prompt_tokens"] == len(request.prompt)


def test_several_in_order_streamed_and_twice(client: httpx.Client, host: FakeHost) -> None:
    parts = [picture(DOG), text(" or "), picture(CAT), picture(DOG)]
    assert chat(client, *parts, stream=True, n=2).status_code == 200
    assert [each.media for each in host.requests] == [
        (Media("image", DOG), Media("image", CAT), Media("image", DOG))
    ] * 2
    middle = (*IDS[DOG], *b" or ", *IDS[CAT], *IDS[DOG])
    assert host.requests[0].prompt == around("", *middle, after="")


def test_sound(client: httpx.Client, host: FakeHost) -> None:
    data = base64.b64encode(DOG).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert chat(client, part, text("What is it?")).status_code == 200
    assert host.requests[0].media == (Media("audio", DOG),)


def test_an_image_url_may_be_a_bare_string(client: httpx.Client, host: FakeHost) -> None:
    assert chat(client, {"type": "image_url", "image_url": url(CAT)}).status_code == 200
    assert host.requests[0].media == (Media("image", CAT),)


def test_no_text_is_taken_for_an_image(client: httpx.Client, host: FakeHost) -> None:
    forged = "<__media__> <__media_0__> [img-1] <__media_" + "0" * 16 + "_0__>"
    assert chat(client, text(forged), picture(CAT)).status_code == 200
    assert host.requests[0].prompt == around(forged, *IDS[CAT], after="")


def test_a_template_shows_where_an_image_is(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": [text("a"), picture(CAT), text("b")]}]}
    shown = client.post("/apply-template", json=body).json()["prompt"]
    assert shown == "<|im_start|>user\na<__media__>b<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_drops_an_image_is_not_obeyed() -> None:
    template = TEMPLATE.replace("{% for message in messages %}", "{% set message = messages[-1] %}")
    template = template.replace("{% endfor %}", "")
    with FakeHost(media=("image",), template=template) as host, serving(host) as client:
        body = {
            "messages": [
                {"role": "user", "content": [picture(CAT)]},
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": "Sure?"},
            ]
        }
        error = refusal(client.post("/v1/chat/completions", json=body))
        assert error["message"] == "the chat template leaves out an image of these messages"
        assert host.requests == []


def test_old_turns_go_with_their_images() -> None:
    with FakeHost(media=("image",), context=400) as host, serving(host) as client:
        body = {
            "overflow": "truncate_left",
            "messages": [
                {"role": "user", "content": [picture(b"x" * 200)]},
                {"role": "assistant", "content": "No idea."},
                {"role": "user", "content": [text("And this? "), picture(CAT)]},
            ],
        }
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert host.requests[0].media == (Media("image", CAT),)
        assert host.requests[0].prompt == around("And this? ", *IDS[CAT], after="")


@pytest.mark.parametrize(
    ("part", "param", "message"),
    [
        ({"type": "image_url"}, "image_url", "is missing"),
        ({"type": "text"}, "text", "is missing"),
        ({"type": "input_audio"}, "input_audio", "is missing"),
        ({"type": "video_url"}, "type", "'video_url' is not offered"),
        (
            {"type": "image_url", "image_url": "data:image/png,abc"},
            "image_url",
            "a data URL has the form data:image/png;base64,...",
        ),
        (
            {"type": "image_url", "image_url": "data:image/png;base64,$$$"},
            "image_url",
            "the data is no base64",
        ),
        ({"type": "image_url", "image_url": url(b"")}, "image_url", "there is no data"),
        (
            {"type": "image_url", "image_url": "file:///etc/passwd"},
            "image_url",
            "an http(s) or data URL is expected",
        ),
        ({"type": "image_url", "image_url": "/etc/passwd"}, "image_url", "is expected"),
        (
            {"type": "image_url", "image_url": "https://example.com/cat.png"},
            "image_url",
            "this server fetches nothing: send a data URL, or allow hosts by server.media_hosts",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}},
            "input_audio.data",
            "the data is no base64",
        ),
    ],
)
def test_what_is_wrong_is_named(
    client: httpx.Client, host: FakeHost, part: Any, param: str, message: str
) -> None:
    error = refusal(chat(client, text("a"), part))
    assert error["param"] == f"messages[0].content[1].{param}"
    assert message in error["message"]
    assert host.requests == []


def test_a_broken_image_is_refused(client: httpx.Client) -> None:
    error = refusal(chat(client, picture(b"broken")))
    assert (error["message"], error["code"]) == ("an image is damaged", "invalid_image")


def test_too_many_are_refused(client: httpx.Client) -> None:
    error = refusal(chat(client, *[picture(CAT)] * 65))
    assert error["message"].endswith("a request may bring 64 images and recordings")


def test_a_model_without_a_projector_says_what_it_needs() -> None:
    bodies = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": [picture(CAT)]}]},
        "/v1/responses": {
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url(CAT)}]}]
        },
        "/v1/messages": {
            "max_tokens": 10,
            "messages": [{"role": "user", "content": [block(CAT)]}],
        },
    }
    with FakeHost() as host, serving(host) as client:
        for path, body in bodies.items():
            error = refusal(client.post(path, json=body))
            assert error["message"].endswith(
                "fake takes no images: start the server with --mmproj and the projector that "
                "belongs to the model"
            )
    with FakeHost(media=("audio",)) as host, serving(host) as client:
        error = refusal(chat(client, picture(CAT)))
        assert error["message"].endswith("fake takes no images: its projector is for audio only")
        assert error["code"] == "unsupported_content"


# /v1/responses


def test_responses_take_images_and_keep_them(client: httpx.Client, host: FakeHost) -> None:
    image = {"type": "input_image", "image_url": url(CAT), "detail": "high"}
    asked = [{"role": "user", "content": [{"type": "input_text", "text": "What? "}, image]}]
    first = client.post("/v1/responses", json={"input": asked}).json()
    assert host.requests[0].prompt == around("What? ", *IDS[CAT], after="")
    kept = client.get(f"/v1/responses/{first['id']}/input_items").json()["data"]
    assert kept[0]["content"][1] == image
    more = {"input": "Sure?", "previous_response_id": first["id"]}
    assert client.post("/v1/responses", json=more).status_code == 200
    assert host.requests[1].media == (Media("image", CAT),)
    assert host.requests[1].prompt[: len(host.requests[0].prompt)] == host.requests[0].prompt


def test_responses_take_sound_and_images_of_tools(client: httpx.Client, host: FakeHost) -> None:
    sound = {"data": base64.b64encode(DOG).decode(), "format": "mp3"}
    items = [
        {"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_image", "image_url": url(CAT)}],
        },
    ]
    assert client.post("/v1/responses", json={"input": items}).status_code == 200
    assert host.requests[0].media == (Media("audio", DOG), Media("image", CAT))


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_image"}, "input[0].content[0].image_url"),
        ({"type": "input_image", "file_id": "f"}, "input[0].content[0].file_id"),
        ({"type": "input_file"}, "input[0].content[0].type"),
        ({"type": "input_image", "image_url": "ftp://a/b"}, "input"),
    ],
)
def test_responses_name_what_is_wrong(client: httpx.Client, part: Any, param: str) -> None:
    body = {"input": [{"role": "user", "content": [part]}], "instructions": "Be brief."}
    assert refusal(client.post("/v1/responses", json=body))["param"] == param


# /v1/messages


def block(data: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(data).decode()
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": encoded},
    }


def test_messages_take_images(client: httpx.Client, host: FakeHost) -> None:
    asked = [block(CAT), text("a"), text("b"), block(DOG)]
    body = {"max_tokens": 10, "messages": [{"role": "user", "content": asked}]}
    assert client.post("/v1/messages", json=body).json()["content"][0]["text"] == "A cat."
    (request,) = host.requests
    assert request.prompt == around("", *IDS[CAT], *b"a\n\nb", *IDS[DOG], after="")
    body.pop("max_tokens")
    counted = client.post("/v1/messages/count_tokens", json=body).json()
    assert counted == {"input_tokens": len(request.prompt)}


def test_messages_take_images_of_tools(client: httpx.Client, host: FakeHost) -> None:
    turns = [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "is_error": True,
                    "content": [text("dark"), block(CAT)],
                }
            ],
        },
    ]
    body = {"max_tokens": 10, "messages": turns}
    assert client.post("/v1/messages", json=body).status_code == 200
    (request,) = host.requests
    assert request.media == (Media("image", CAT),)
    at = request.prompt.index(IDS[CAT][1])
    assert bytes(request.prompt[at - 12 : at]) == b"Error: dark["


@pytest.mark.parametrize(
    ("source", "param"),
    [
        (None, "messages[0].content[0].source"),
        ({"type": "file", "file_id": "f"}, "messages[0].content[0].source.type"),
        ({"type": "base64"}, "messages[0].content[0].source.data"),
        ({"type": "url"}, "messages[0].content[0].source.url"),
        ({"type": "base64", "data": "?"}, "messages"),
        ({"type": "url", "url": "https://example.com/a.png"}, "messages"),
    ],
)
def test_messages_name_what_is_wrong(client: httpx.Client, source: Any, param: str) -> None:
    content = [{"type": "image", "source": source}]
    body = {"max_tokens": 10, "messages": [{"role": "user", "content": content}]}
    error = refusal(client.post("/v1/messages", json=body))
    assert f"`{param}`" in error["message"]


def test_a_prompt_with_an_image_can_be_warmed(client: httpx.Client, host: FakeHost) -> None:
    """The fake host has no cache: its refusal comes first."""
    body = {"messages": [{"role": "user", "content": [picture(CAT)]}]}
    assert refusal(client.post("/v1/cache/warm", json=body))["code"] == "cache_disabled"


def test_long_nonsense_is_refused_at_once(client: httpx.Client) -> None:
    for nonsense in ("data:" + "a" * 10**6, "data:a/b" + ";a=b" * 10**5, "x" * 10**6):
        part = {"type": "image_url", "image_url": nonsense}
        assert "URL" in refusal(chat(client, part))["message"]
