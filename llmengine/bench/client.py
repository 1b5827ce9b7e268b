"""A client of any OpenAI-compatible server, that notes when each chunk of an answer arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from llmengine.bench.chunks import Chunk, decode, events, reason, worded
from llmengine.bench.record import Record
from llmengine.errors import ModelUnavailable

NO_ROOM = (429, 503)
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 3600.0  # without a byte

_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class Answer(Struct, frozen=True):
    status: int
    body: bytes


class Client:
    """Made and used on one event loop; `async with` closes its connections."""

    def __init__(
        self, url: str, key: str = "", clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`url` with or without `/v1`."""
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._clock = clock
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS),
            # Some servers close a connection after a stream without saying so before: none is used
            # twice.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """GET, or POST with a body; raises ModelUnavailable where no server answers."""
        url = f"{self.url}/{path}"
        try:
            async with (
                self._session.get(url)
                if body is None
                else self._session.post(url, data=msgspec.json.encode(body))
            ) as response:
                return Answer(response.status, await response.read())
        except _FAILURES as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelUnavailable(f"no server answers at {self.url}: {reason}") from error

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
            async with self._session.post(f"{self.url}/{path}", data=data) as response:
                if response.status == 200:
                    await self._read(response, record, begun)
                else:
                    record.refused = response.status in NO_ROOM
                    record.error = f"HTTP {response.status}: {reason(await response.read())}"
        except _FAILURES as error:
            record.error = worded(f"{type(error).__name__}: {error}")
        except msgspec.DecodeError as error:
            record.error = worded(f"an event that is no chunk: {error}")
        record.ended = self._clock()
        return record

    async def _read(
        self, response: aiohttp.ClientResponse, record: Record, begun: Callable[[], None]
    ) -> None:
        ended = False
        texts: list[str] = []
        async for data in events(response.content.iter_any()):
            if data == b"[DONE]":
                ended = True
                continue
            chunk = decode(data)
            if any(choice.arrived for choice in chunk.choices):
                record.arrivals.append(self._clock())
                if len(record.arrivals) == 1:
                    begun()
            _note(chunk, record, texts)
        record.text = "".join(texts)
        if not record.counted:
            record.output_tokens = len(record.arrivals)
        if not record.error and not record.arrivals:
            record.error = "an answer without a token"
        elif not record.error and not ended and not record.finish_reason:
            record.error = "the stream broke off"


def _note(chunk: Chunk, record: Record, texts: list[str]) -> None:
    if chunk.error is not None:
        record.error = worded(chunk.error)
    if chunk.usage is not None:
        record.prompt_tokens = chunk.usage.prompt_tokens
        record.output_tokens = chunk.usage.completion_tokens
        record.cached_tokens = chunk.usage.cached_tokens
        record.counted = True
    for choice in chunk.choices:
        texts.append(choice.content)
        record.finish_reason = choice.finish_reason or record.finish_reason
