"""A client of any OpenAI-compatible server, that notes when each chunk of an answer arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from llmengine.bench.record import Record
from llmengine.errors import ModelUnavailable, Unauthorized

NO_ROOM = (429, 503)
ERROR_LENGTH = 200  # characters of an error that are kept
CONNECT_SECONDS = 10.0


class _Details(Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None

    @property
    def arrived(self) -> bool:
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class _Choice(Struct, frozen=True):
    delta: _Delta | None = None  # of a chat
    text: str | None = None  # of a completion
    finish_reason: str | None = None

    @property
    def arrived(self) -> bool:
        return bool(self.text or (self.delta and self.delta.arrived))

    @property
    def content(self) -> str:
        return (self.delta.content if self.delta else self.text) or ""


class _Event(Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class Client:
    """Made and used on one event loop; `async with` closes its connections."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        timeout: float = 3600.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`url` with or without `/v1`; `timeout` seconds without a byte are an error."""
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._clock = clock
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=timeout)
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=limits, connector=aiohttp.TCPConnector(limit=0)
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def models(self) -> list[str]:
        """Raises ModelUnavailable and Unauthorized."""
        try:
            async with self._session.get(f"{self.url}/models") as response:
                if response.status in (401, 403):
                    raise Unauthorized(f"{self.url} refuses the key; --key gives another")
                if response.status != 200:
                    raise ModelUnavailable(f"{self.url}/models answers {response.status}")
                found = msgspec.json.decode(await response.read())
                return [str(each["id"]) for each in found["data"]]
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise ModelUnavailable(f"no server answers at {self.url}: {error}") from error
        except (msgspec.DecodeError, LookupError, TypeError) as error:
            raise ModelUnavailable(f"{self.url}/models lists no models: {error}") from error

    async def ask(
        self,
        body: Mapping[str, Any],
        part: str = "",
        *,
        begun: Callable[[], None] = lambda: None,
    ) -> Record:
        """Send a request and read its stream; errors are in the record. `begun`: a first chunk."""
        path = "chat/completions" if "messages" in body else "completions"
        more = {"stream": True, "stream_options": {"include_usage": True}}
        data = msgspec.json.encode({**body, **more})
        record = Record(part, self._clock())
        try:
            async with self._session.post(
                f"{self.url}/{path}", data=data, headers={"Content-Type": "application/json"}
            ) as response:
                if response.status == 200:
                    await self._read(response, record, begun)
                else:
                    record.refused = response.status in NO_ROOM
                    text = (await response.read()).decode("utf-8", "replace")
                    record.error = f"HTTP {response.status}: {_reason(text)}"
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            record.error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
        except msgspec.DecodeError as error:
            record.error = f"an event that is no chunk: {error}"[:ERROR_LENGTH]
        record.ended = self._clock()
        return record

    async def _read(
        self, response: aiohttp.ClientResponse, record: Record, begun: Callable[[], None]
    ) -> None:
        ended = False
        texts: list[str] = []
        async for data in _events(response):
            if data == b"[DONE]":
                ended = True
                continue
            event = _event.decode(data)
            if event.error is not None:
                record.error = _reason(msgspec.json.encode({"error": event.error}).decode())
            if _note(event, record, texts):
                record.arrivals.append(self._clock())
                if len(record.arrivals) == 1:
                    begun()
        record.text = "".join(texts)
        if not record.counted:
            record.output_tokens = len(record.arrivals)
        if not record.error and not record.arrivals:
            record.error = "an answer without a token"
        elif not record.error and not ended and not record.finish_reason:
            record.error = "the stream broke off"


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each event; comments and other fields are passed over."""
    rest = b""
    async for block in response.content.iter_any():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _note(event: _Event, record: Record, texts: list[str]) -> bool:
    """Enter an event into the record; whether it brought a token."""
    if event.usage is not None:
        details = event.usage.prompt_tokens_details or _Details()
        record.prompt_tokens = event.usage.prompt_tokens
        record.output_tokens = event.usage.completion_tokens
        record.cached_tokens = details.cached_tokens or 0
        record.counted = True
    arrived = False
    for choice in event.choices:
        arrived = arrived or choice.arrived
        texts.append(choice.content)
        record.finish_reason = choice.finish_reason or record.finish_reason
    return arrived


def _reason(text: str) -> str:
    """The message of an error, as OpenAI words it, or what there is instead."""
    try:
        found = msgspec.json.decode(text)["error"]
        message = str(found["message"] if isinstance(found, dict) else found)
    except (msgspec.DecodeError, LookupError, TypeError):
        message = text
    return " ".join(message.split())[:ERROR_LENGTH]
