"""What a server calls its model, takes of requests, and counts as tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.bench import words
from llmengine.bench.chunks import reason
from llmengine.bench.client import Answer, Client
from llmengine.bench.words import Ruler
from llmengine.errors import InvalidRequest, ModelUnavailable, Unauthorized

SHORT, LONG = 1, 2  # times all words
# Of vLLM, SGLang, llama-server and ours: a model that would end goes on.
FILLING = {"ignore_eos": True}


class Target(Struct, frozen=True):
    model: str
    ruler: Ruler
    filling: dict[str, Any]  # parameters that make a model write all the tokens that are wanted
    notes: tuple[str, ...] = ()


async def probe(client: Client, model: str, common: Mapping[str, Any]) -> Target:
    """Ask a few times; that also warms the server up.

    Raises ModelUnavailable, Unauthorized and InvalidRequest where it cannot be measured.
    """
    model = await _model(client, model)
    common = {"model": model, **common}
    filling: dict[str, Any] = dict(FILLING)
    answer = await _asked(client, SHORT, {**common, **filling})
    if answer.status in (400, 422):
        filling = {}
        answer = await _asked(client, SHORT, common)
    longer = await _asked(client, LONG, {**common, **filling})
    counted = [
        (times * len(words.WORDS), _counted(client, each))
        for times, each in ((SHORT, answer), (LONG, longer))
    ]
    record = await client.ask({**common, **filling, **_request(SHORT)})
    if record.error:
        raise ModelUnavailable(f"{client.url} does not stream a chat: {record.error}")
    notes = []
    if not filling:
        notes.append("the server takes no ignore_eos: answers may be shorter than wanted")
    if not record.counted:
        notes.append("the server counts no tokens of streams: their chunks were counted")
    return Target(model, Ruler.of(*counted), filling, tuple(notes))


async def _model(client: Client, wanted: str) -> str:
    answer = await client.call("models")
    if answer.status in (401, 403):
        raise Unauthorized(f"{client.url} refuses the key; --key gives another")
    try:
        names = [str(each["id"]) for each in msgspec.json.decode(answer.body)["data"]]
    except (msgspec.DecodeError, LookupError, TypeError):
        names = []
    if not names and not wanted:
        raise ModelUnavailable(
            f"{client.url}/models lists no models (HTTP {answer.status}: {reason(answer.body)}); "
            "--model names one"
        )
    if wanted and names and wanted not in names:
        raise InvalidRequest(f"{client.url} has no model {wanted}; it has {', '.join(names)}")
    return wanted or names[0]


def _request(times: int) -> dict[str, Any]:
    text = words.every(random.Random(), times)
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 2}


async def _asked(client: Client, times: int, common: Mapping[str, Any]) -> Answer:
    return await client.call("chat/completions", {**common, **_request(times)})


def _counted(client: Client, answer: Answer) -> int:
    """Tokens of the prompt; 0 from a server that does not tell."""
    if answer.status != 200:
        raise ModelUnavailable(
            f"{client.url} does not answer a chat: HTTP {answer.status}: {reason(answer.body)}"
        )
    try:
        return int(msgspec.json.decode(answer.body)["usage"]["prompt_tokens"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return 0
