"""The chunks of a streamed answer, as far as a benchmark looks at them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

REASON_LENGTH = 200  # characters of an error that are kept


class Details(Struct, frozen=True):
    cached_tokens: int | None = None


class Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or 0


class Delta(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class Choice(Struct, frozen=True):
    delta: Delta | None = None  # of a chat
    text: str | None = None  # of a completion
    finish_reason: str | None = None

    @property
    def content(self) -> str:
        return (self.delta.content if self.delta else self.text) or ""

    @property
    def arrived(self) -> bool:
        """Whether it brings a token; the first chunk of a chat often has a role only."""
        delta = self.delta or Delta()
        thought = delta.reasoning_content or delta.reasoning
        return bool(self.content or thought or delta.tool_calls)


class Chunk(Struct, frozen=True):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


decode = msgspec.json.Decoder(Chunk).decode


async def events(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event; comments and other fields are passed over."""
    rest = b""
    async for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def reason(answer: bytes) -> str:
    """The message of an error, as OpenAI words it, or what there is instead."""
    try:
        found = msgspec.json.decode(answer)["error"]
    except (msgspec.DecodeError, LookupError, TypeError):
        found = answer.decode("utf-8", "replace")
    return worded(found)


def worded(error: Any) -> str:
    """An error in one line."""
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:REASON_LENGTH]
