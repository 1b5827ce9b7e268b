"""The objects of /v1/responses: the items of an answer, and the events in which they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from llmengine import core
from llmengine.core import Output
from llmengine.server import logprobs, wire
from llmengine.server import responses_wire as out
from llmengine.server.format import dropped
from llmengine.server.framing import NAMED
from llmengine.server.parts import Change, Part, Parts
from llmengine.server.reader import Reader
from llmengine.server.responses_input import item_id

E = TypeVar("E", bound=out.Event)

# What OpenAI has for the kinds of failure; all others are the server's.
_FAILURES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


class ResponsesFormat:
    framing = NAMED

    def __init__(
        self,
        response: out.Response,
        reader: Reader,
        keep: Callable[[out.Response], Awaitable[None]],
    ) -> None:
        """`keep` is called with the whole answer before a client is told of it."""
        self.response = response
        self._reader = reader
        self._keep = keep
        self._parts = Parts()
        self._count = 0  # events so far
        self.ended = asyncio.Event()  # set when nobody changes the response any more

    def opening(self) -> Iterator[out.Event]:
        yield self._event(out.Created, response=self.response)
        yield self._event(out.InProgress, response=self.response)

    def chunks(self, _: int, output: Output) -> Iterator[out.Event]:
        deltas = self._reader.deltas(output)
        for change in self._parts.add(deltas, self._reader.said):
            yield from self._changed(change, "completed")
        if output.finish_reason is not None:
            yield from self._ended(output)

    async def closing(self, of: core.Usage) -> Iterable[out.Event]:
        response = await self._finished(of)
        kind: type[out.ResponseEvent] = out.Completed
        if response.status != "completed":
            kind = out.Incomplete
        return [self._event(kind, response=response)]

    def failed(self, error: wire.Error, status: int) -> Iterable[out.Event]:
        code = _FAILURES.get(status, "server_error")
        told = out.ResponseError(code, error.message)
        self.response = replace(self.response, status="failed", error=told)
        return [self._event(out.Failed, response=self.response)]

    async def whole(self, outputs: Sequence[Sequence[Output]], of: core.Usage) -> out.Response:
        for output in outputs[0]:
            for _ in self.chunks(0, output):
                pass  # the events tell what is in the response at the end
        return await self._finished(of)

    async def _finished(self, of: core.Usage) -> out.Response:
        self.response = replace(self.response, usage=self._usage(of))
        await self._keep(self.response)
        return self.response

    def _ended(self, output: Output) -> Iterator[out.Event]:
        cut = output.finish_reason in ("length", "cancelled") or self._reader.severed(output)
        for change in self._parts.finish():
            yield from self._changed(change, "incomplete" if cut else "completed")
        self.response = replace(self.response, status="completed", completed_at=int(time.time()))
        if output.finish_reason == "length":
            why = out.IncompleteDetails("max_output_tokens")
            self.response = replace(
                self.response, status="incomplete", completed_at=None, incomplete_details=why
            )
        elif output.finish_reason == "cancelled":
            self.response = replace(self.response, status="cancelled", completed_at=None)

    def _changed(self, change: Change, status: out.Status) -> Iterator[out.Event]:
        part = change.part
        if change.kind == "open":
            yield from self._opened(part)
        elif change.kind == "more":
            yield self._grew(part, change)
        else:
            item = self._item(part, status)
            yield from self._closed(part, item)
            self.response = replace(self.response, output=[*self.response.output, item])

    def _opened(self, part: Part) -> Iterator[out.Event]:
        item = self._item(part, "in_progress")
        if isinstance(item, (out.MessageItem, out.ReasoningItem)):
            [content], item = item.content, replace(item, content=[])
            yield self._of_part(out.ItemAdded, part, item=item)
            yield self._of_part(out.PartAdded, part, item_id=item.id, part=content)
        else:
            yield self._of_part(out.ItemAdded, part, item=item)

    def _grew(self, part: Part, change: Change) -> out.Event:
        common: dict[str, Any] = {"item_id": self._id(part), "delta": change.text}
        if part.kind == "text":
            found = logprobs.of_chat(change.logprobs).content
            return self._of_part(out.TextDelta, part, logprobs=found, **common)
        if part.kind == "thinking":
            return self._of_part(out.ReasoningDelta, part, **common)
        return self._of_part(out.ArgumentsDelta, part, **common)

    def _closed(self, part: Part, item: out.Item) -> Iterator[out.Event]:
        if isinstance(item, out.CallItem):
            yield self._of_part(
                out.ArgumentsDone, part, item_id=item.id, arguments=part.text, name=part.name
            )
        elif isinstance(item, (out.MessageItem, out.ReasoningItem)):
            [content] = item.content
            common: dict[str, Any] = {"item_id": item.id, "text": part.text}
            if isinstance(content, out.OutputText):
                found = content.logprobs
                yield self._of_part(out.TextDone, part, logprobs=found, **common)
            else:
                yield self._of_part(out.ReasoningDone, part, **common)
            yield self._of_part(out.PartDone, part, item_id=item.id, part=content)
        yield self._of_part(out.ItemDone, part, item=item)

    def _item(self, part: Part, status: out.Status) -> out.Item:
        id = self._id(part)
        if part.kind == "call":
            return out.CallItem(
                id=id, call_id=part.id, name=part.name, arguments=part.text, status=status
            )
        if part.kind == "thinking":
            content = [out.ReasoningText(part.text)]
            return out.ReasoningItem(id=id, content=content, status=status)
        found = logprobs.of_chat(part.logprobs).content
        text = out.OutputText(text=part.text, logprobs=found)
        return out.MessageItem(id=id, role="assistant", content=[text], status=status)

    def _id(self, part: Part) -> str:
        return item_id(_KINDS[part.kind], self.response.id, str(part.index))

    def _usage(self, of: core.Usage) -> out.ResponseUsage:
        return out.ResponseUsage(
            of.prompt_tokens,
            of.completion_tokens,
            of.prompt_tokens + of.completion_tokens,
            out.InputTokensDetails(of.cached_tokens),
            out.OutputTokensDetails(self._reader.reasoning_tokens),
            **dropped(of),
        )

    def _of_part(self, kind: type[E], part: Part, /, **fields: Any) -> E:
        return self._event(kind, output_index=part.index, **fields)

    def _event(self, kind: type[E], **fields: Any) -> E:
        self._count += 1
        return kind(sequence_number=self._count - 1, **fields)


_KINDS: dict[str, type[out.Item]] = {
    "text": out.MessageItem,
    "thinking": out.ReasoningItem,
    "call": out.CallItem,
}
