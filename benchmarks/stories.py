"""Clients who want stories, and what each of them got."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
from msgspec import Struct

KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 1.0},
    {"temperature": 1.0, "repeat_penalty": 1.1, "dry_multiplier": 0.5},
)


class Told(Struct, frozen=True):
    """What one client got."""

    text: str
    reason: str
    tokens: int
    gap: float = 0.0  # seconds: the longest between two pieces of a stream


def bodies(clients: int, tokens: int) -> list[dict[str, Any]]:
    """What each of them asks; every fourth wants its answer whole."""
    return [
        {
            "prompt": f"Story {number}. Once upon a time there was",
            "max_tokens": tokens,
            "ignore_eos": True,
            "seed": number,
            "stream": number % 4 != 3,
            "stream_options": {"include_usage": True} if number % 4 != 3 else None,
            **KINDS[number % len(KINDS)],
        }
        for number in range(clients)
    ]


async def ask_all(url: str, asked: Sequence[dict[str, Any]]) -> list[Told | Exception]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        asking = (_ask(client, body) for body in asked)
        return await asyncio.gather(*asking, return_exceptions=True)  # type: ignore[return-value]


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Told:
    if not body["stream"]:
        response = await client.post("/v1/completions", json=body)
        found = response.raise_for_status().json()
        choice = found["choices"][0]
        return Told(choice["text"], choice["finish_reason"], found["usage"]["completion_tokens"])
    text, reason, tokens, gap, last = "", "", 0, 0.0, 0.0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            for choice in event["choices"]:
                now = time.monotonic()
                gap, last = max(gap, now - last) if last else 0.0, now
                text += choice["text"]
                reason = choice["finish_reason"] or reason
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return Told(text, reason, tokens, gap)


def same(one: Told | Exception, two: Told | Exception) -> bool:
    return (
        isinstance(one, Told)
        and isinstance(two, Told)
        and (one.text, one.reason, one.tokens) == (two.text, two.reason, two.tokens)
    )
