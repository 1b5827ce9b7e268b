"""From requests to an HTTP response: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence

from sanic import HTTPResponse, Request

from llmengine import core
from llmengine.chat.output import OutputParser
from llmengine.chat.prompt import Prompt
from llmengine.core import Output
from llmengine.keys import ANONYMOUS, Key
from llmengine.sampling import SamplingParams
from llmengine.server import errors, wire
from llmengine.server.bodies import Body
from llmengine.server.deadline import deadline
from llmengine.server.dialect import worded
from llmengine.server.dispatch import Job
from llmengine.server.format import Format, Head, total
from llmengine.server.limits import limits_of
from llmengine.server.parameters import of_choice
from llmengine.server.preparation import NAMES, Prepared
from llmengine.server.record import CLIENT_CLOSED, Record, record_of
from llmengine.server.state import State, state_of

STREAM_HEADERS = {"X-Accel-Buffering": "no"}  # nginx would collect the events


def head(state: State, prefix: str) -> Head:
    answer = f"{prefix}{secrets.token_hex(12)}"
    return Head(answer, int(time.time()), state.model, state.fingerprint)


async def answer(
    request: Request,
    body: Body,
    head: Head,
    prompts: Sequence[Prompt],
    params: SamplingParams,
    format: Format,
    *,
    special: bool = False,
    prediction: tuple[int, ...] = (),
    watchers: Sequence[OutputParser] = (),
) -> HTTPResponse | None:
    """Compute `body.choices` answers to each of `prompts`, numbered in that order.

    With `special` the format gets control tokens as text. A `prediction` is what the answers are
    likely to have in them. An answer ends as soon as its watcher,
    if there are any, finds it complete. What is not finished is cancelled when
    the client goes away, and when anything fails.
    """
    state = state_of(request)
    key, end = request.ctx.key, deadline(request, body.timeout)
    requests = [
        core.Request(
            id=f"{head.id}-{at * body.choices + choice}",
            prompt=prompt.tokens,
            params=of_choice(params, choice),
            deadline=end,
            boundaries=prompt.boundaries,
            keep=prompt.keep,
            media=prompt.media,
            tenant=key.id,
            priority=urgency(key, body.priority),
            progress=bool(body.stream and body.return_progress),
            cache_salt=state.salt(key.digest, body.cache_salt),
            special=special,
            prediction=prediction,
        )
        for at, prompt in enumerate(prompts)
        for choice in range(body.choices)
    ]
    record = record_of(request)
    await state.journal.prompts(record, [each.tokens for each in prompts])
    with limits_of(request).running(key, len(requests), sum(len(each.tokens) for each in prompts)):
        job = await state.dispatcher.submit(requests)
        record.submitted()
        generation = _Generation(state, record, job, prompts, body.choices, watchers)
        try:
            if body.stream:
                await _stream(request, generation, format)
                return None
            outputs = await generation.whole()
            found = await format.whole(outputs, generation.usage)
            return HTTPResponse(wire.encode(found), content_type="application/json")
        except asyncio.CancelledError:
            generation.finish(CLIENT_CLOSED)
            raise
        finally:
            job.close()
            limits_of(request).spend(key, generation.tokens)


def urgency(key: Key, asked: int | None) -> int:
    """The priority of a request: what it asks for, but with a key no more than that has."""
    if asked is None:
        return key.priority
    return asked if key is ANONYMOUS else max(key.priority, asked)


async def answer_chat(
    request: Request, chat: Prepared, head: Head, format: Format
) -> HTTPResponse | None:
    """As `answer`, to a prepared chat."""
    state, limited = state_of(request), chat.plan.most is not None
    watchers = [chat.parser(state) for _ in range(chat.body.choices if limited else 0)]
    with worded(NAMES):
        return await answer(
            request, chat.body, head, [chat.prompt], chat.params, format,
            special=chat.special, prediction=chat.prediction, watchers=watchers,
        )  # fmt: skip


class _Generation:
    """The outputs of a job on their way out, watched."""

    def __init__(
        self,
        state: State,
        record: Record,
        job: Job,
        prompts: Sequence[Prompt],
        choices: int,
        watchers: Sequence[OutputParser],
    ) -> None:
        self.job = job
        self._state = state
        self._record = record
        self._choices = choices
        self._watchers = watchers
        self._prompts = prompts
        self.tokens = 0  # of all answers so far
        self._usages: list[core.Usage] = [core.Usage(0, 0)] * (len(prompts) * choices)

    @property
    def usage(self) -> core.Usage:
        return total(self._usages, self._choices, self._prompts)

    async def outputs(self) -> AsyncIterator[tuple[int, Output] | None]:
        """Those of the job."""
        try:
            async for item in self.job:
                if item is not None:
                    self._saw(*item)
                yield item
        finally:
            if self.job.failed is not None:
                self._record_output(*self.job.failed)

    def _saw(self, index: int, output: Output) -> None:
        self._record_output(index, output)
        if output.usage is None and self._watchers:
            self._watchers[index].feed(output.text)
            if self._watchers[index].complete:
                self.job.complete(index)

    def _record_output(self, index: int, output: Output) -> None:
        self.tokens += output.tokens
        self._record.output(index, output, self._state.metrics)
        if output.usage is not None:
            self._usages[index] = output.usage
            self._record.usage = self.usage

    async def whole(self) -> list[list[Output]]:
        """All outputs of each request."""
        outputs: list[list[Output]] = [[] for _ in self._usages]
        async for item in self.outputs():
            if item is not None:
                index, output = item
                outputs[index].append(output)
        return outputs

    def finish(self, status: int) -> None:
        self._state.journal.finish(self._record, status)


async def _stream(request: Request, generation: _Generation, format: Format) -> None:
    """Send the events. Once the status is sent, an error is one of them, and the last."""
    record_of(request).streamed = True
    response = await request.respond(
        headers=STREAM_HEADERS, content_type="text/event-stream; charset=utf-8"
    )
    assert response is not None
    status, framing = 200, format.framing
    try:
        await response.send(framing.events(format.opening()))
        async for item in generation.outputs():
            if item is None:
                await response.send(framing.waiting)
                continue
            index, output = item
            if events := framing.events(format.chunks(index, output)):
                await response.send(events)
        end = await format.closing(generation.usage)
        await response.send(framing.events(end) + framing.end)
    except Exception as error:
        found, status = errors.known(request, error)
        told = errors.shape(request, error, found)
        await response.send(framing.events(format.failed(told, status)))
    generation.finish(status)
    await response.eof()
