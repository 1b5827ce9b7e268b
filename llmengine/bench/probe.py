"""What a server calls its model, takes of requests, and counts as tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llmengine.bench import words
from llmengine.bench.client import Client
from llmengine.bench.record import Record
from llmengine.bench.words import Ruler
from llmengine.errors import InvalidRequest, ModelUnavailable

SHORT, LONG = 40, 240  # words
# Of vLLM, SGLang, llama-server and ours: a model that would end goes on.
FILLING = {"ignore_eos": True}


class Target(Struct, frozen=True):
    model: str
    ruler: Ruler
    filling: dict[str, Any]  # parameters that make a model write all the tokens that are wanted
    notes: tuple[str, ...] = ()


async def probe(client: Client, model: str, common: Mapping[str, Any]) -> Target:
    """Ask twice; that also warms the server up. Raises ModelUnavailable where it cannot answer."""
    names = await client.models()
    if not model and not names:
        raise ModelUnavailable(f"{client.url} has no models")
    if model and names and model not in names:
        raise InvalidRequest(f"{client.url} has no model {model}; it has {', '.join(names)}")
    common = {"model": model or names[0], **common}
    filling: dict[str, Any] = dict(FILLING)
    chance = random.Random()
    short = await _asked(client, chance, SHORT, {**common, **filling})
    if short.error.startswith(("HTTP 400", "HTTP 422")):
        filling = {}
        short = await _asked(client, chance, SHORT, common)
    long = await _asked(client, chance, LONG, {**common, **filling})
    for record in (short, long):
        if record.error:
            raise ModelUnavailable(f"{client.url} does not answer a chat: {record.error}")
    ruler = Ruler.of((SHORT, short.prompt_tokens), (LONG, long.prompt_tokens))
    return Target(common["model"], ruler, filling, tuple(_notes(filling, short)))


async def _asked(
    client: Client, chance: random.Random, count: int, common: Mapping[str, Any]
) -> Record:
    message = {"role": "user", "content": words.text(chance, count)}
    return await client.ask({**common, "messages": [message], "max_tokens": 2})


def _notes(filling: Mapping[str, Any], record: Record) -> list[str]:
    notes = []
    if not filling:
        notes.append("the server takes no ignore_eos: answers may be shorter than wanted")
    if not record.counted:
        notes.append("the server counts no tokens: chunks were counted, a word taken for a token")
    return notes
