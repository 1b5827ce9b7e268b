"""Conversations that go on after their server was started anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from llmengine.bench import words
from llmengine.bench.client import Client
from llmengine.bench.figures import errors, figures
from llmengine.bench.load import Load
from llmengine.bench.probe import probe
from llmengine.bench.record import Record
from llmengine.bench.report import Row, Spread
from llmengine.bench.server import Plan
from llmengine.bench.workloads import WORKLOADS, Conversation

Start = Callable[[], AbstractContextManager[str]]


def measure(start: Start, plan: Plan) -> Row:
    """The next turn of each conversation of a multi-turn workload, one after the other."""
    with start() as url:
        conversations = asyncio.run(_talk(url, plan))
    with start() as url:
        records, seconds = asyncio.run(_go_on(url, conversations))
    found = figures(records, seconds, plan.goodput)
    spreads = {name: Spread.of([value]) for name, value in found.items()}
    return Row(group="restart", load="1 client", figures=spreads, errors=errors(records))


async def _talk(url: str, plan: Plan) -> list[Conversation]:
    """Have the conversations; each with one turn more, which is yet to be asked."""
    workload = WORKLOADS["multi-turn"]
    chance = random.Random()
    async with Client(url) as client:
        target = await probe(client, "", plan.body)
        size = workload.size(1, plan.sizes)
        talks = workload.make(chance, target.ruler, size)
        load = Load(client, {"model": target.model, **plan.body}, target.filling)
        await load.closed(talks, 1)
    question = target.ruler.words(size.input)
    return [
        _next(talk, load.records[number * size.turns :], words.text(chance, question))
        for number, talk in enumerate(talks)
    ]


def _next(talk: Conversation, records: Sequence[Record], question: str) -> Conversation:
    messages: list[Any] = []
    for turn, record in zip(talk.turns, records, strict=False):
        messages += [
            *turn.body["messages"],
            {"role": "assistant", "content": record.text},
        ]
    messages.append({"role": "user", "content": question})
    last = talk.turns[-1]
    body = {**last.body, "messages": messages}
    return Conversation((msgspec.structs.replace(last, body=body),))


async def _go_on(url: str, conversations: Sequence[Conversation]) -> tuple[list[Record], float]:
    async with Client(url) as client:
        target = await probe(client, "", {})
        load = Load(client, {"model": target.model}, target.filling)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await load.closed(conversations, 1)
        return load.records, loop.time() - started
