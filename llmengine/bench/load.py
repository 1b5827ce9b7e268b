"""Who asks when: so many clients that wait for their answers, or arrivals at a rate."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from llmengine.bench.record import Record
from llmengine.bench.workloads import Conversation, Turn


class Asks(Protocol):
    """What is needed of a client."""

    async def ask(
        self, body: Mapping[str, Any], part: str = "", *, begun: Callable[[], None]
    ) -> Record: ...


class Load:
    """Asks what conversations say; the records so far stay when it is cancelled."""

    def __init__(
        self,
        client: Asks,
        common: Mapping[str, Any],
        filling: Mapping[str, Any],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`common` goes into every body, `filling` into those that want all their tokens.

        `ended` is called after each conversation.
        """
        self.records: list[Record] = []
        self._client = client
        self._common = common
        self._filling = filling
        self._ended = ended
        self._begun = 0  # conversations that have had a token, or will have none
        self._more = asyncio.Event()  # set anew whenever one more has begun

    async def closed(self, conversations: Sequence[Conversation], clients: int) -> None:
        """Each client asks for the next conversation when its last one is over.

        Conversations that wait for others come beside those of the clients.
        """
        waiting = [each for each in conversations if each.after]
        left = deque(each for each in conversations if not each.after)

        async def one() -> None:
            while left:
                await self._play(left.popleft())

        await _together([*(one() for _ in range(clients)), *map(self._play, waiting)])

    async def arriving(self, conversations: Sequence[Conversation], times: Sequence[float]) -> None:
        """Each conversation begins at its time, in seconds from now, whatever else runs."""
        start = time.perf_counter()

        async def one(conversation: Conversation, at: float) -> None:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            await self._play(conversation)

        await _together(map(one, conversations, times))

    async def _play(self, conversation: Conversation) -> None:
        while self._begun < conversation.after:
            self._more.clear()
            await self._more.wait()
        counted = False

        def begun() -> None:
            nonlocal counted
            self._begun += not counted
            counted = True
            self._more.set()

        said: list[Any] = []
        for turn in conversation.turns:
            record = await self._client.ask(self._body(turn, said), turn.part, begun=begun)
            begun()
            self.records.append(_judged(turn, record))
            if record.error:
                break
            said += [*turn.body.get("messages", ()), _assistant(record)]
        self._ended()

    def _body(self, turn: Turn, said: Sequence[Any]) -> dict[str, Any]:
        body = {**self._common, **turn.body, **(self._filling if turn.full else {})}
        if said:
            body["messages"] = [*said, *turn.body["messages"]]
        return body


def poisson(count: int, rate: float, chance: random.Random) -> list[float]:
    """Times of so many arrivals, `rate` of them a second on average, each by itself."""
    times, now = [], 0.0
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


async def _together(works: Any) -> None:
    """Wait for all; if one fails or this is cancelled, none goes on."""
    tasks = [asyncio.ensure_future(each) for each in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _assistant(record: Record) -> dict[str, str]:
    return {"role": "assistant", "content": record.text}


def _judged(turn: Turn, record: Record) -> Record:
    if turn.is_json and not record.error and record.finish_reason == "stop":
        try:
            msgspec.json.decode(record.text)
        except msgspec.DecodeError:
            record.error = "the answer is no JSON"
    return record
