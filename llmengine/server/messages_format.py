"""The objects of /v1/messages: the blocks of an answer, and the events in which they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmengine import core
from llmengine.core import Output
from llmengine.server import messages_wire as out
from llmengine.server import wire
from llmengine.server.format import Head, dropped
from llmengine.server.framing import Framing, named
from llmengine.server.parts import Change, Part, Parts
from llmengine.server.reader import Reader

INVALID = "INVALID_JSON"  # as Anthropic's own advice names arguments that are none


class MessagesFormat:
    framing = Framing(named, waiting=named(out.Ping()))

    def __init__(
        self, head: Head, reader: Reader, *, prompt: int, limit: int, hidden: bool, request: str
    ) -> None:
        """`prompt`: its tokens; `limit`: tokens that the answer may have; `hidden`: whether
        thinking comes without its text; `request`: what errors name."""
        usage = out.MessagesUsage(prompt, 0)
        self._message = out.AnsweredMessage(id=head.id, model=head.model, usage=usage)
        self._reader = reader
        self._limit = limit
        self._hidden = hidden
        self._request = request
        self._parts = Parts()
        self._last = Output("")

    def opening(self) -> Iterator[Struct]:
        yield out.MessageStart(self._message)
        yield out.Ping()

    def chunks(self, _: int, output: Output) -> Iterator[Struct]:
        for change in self._parts.add(self._reader.deltas(output)):
            yield from self._changed(change)
        if output.finish_reason is not None:
            self._last = output
            for change in self._parts.finish():
                yield from self._changed(change)

    async def closing(self, of: core.Usage) -> Iterable[Struct]:
        message = self._finished(of)
        stop = out.Stop(message.stop_reason, message.stop_sequence)
        return [out.MessageDelta(stop, message.usage), out.MessageStop()]

    def failed(self, error: wire.Error, status: int) -> Iterable[Struct]:
        return [out.messages_error(error, status, self._request)]

    async def whole(
        self, outputs: Sequence[Sequence[Output]], of: core.Usage
    ) -> out.AnsweredMessage:
        for output in outputs[0]:
            for _ in self.chunks(0, output):
                pass  # the events tell what is in the parts at the end
        return self._finished(of)

    def _finished(self, of: core.Usage) -> out.AnsweredMessage:
        read = of.prompt_tokens - of.cached_tokens
        reason = self._stop_reason(of)
        return replace(
            self._message,
            content=[self._block(each, whole=True) for each in self._parts.all],
            stop_reason=reason,
            stop_sequence=self._last.stop if reason == "stop_sequence" else None,
            usage=out.MessagesUsage(
                read,
                of.completion_tokens,
                of.cached_tokens,
                **dropped(of),
            ),
        )

    def _stop_reason(self, of: core.Usage) -> out.StopReason:
        reason = self._reader.reason(self._last)
        if reason == "tool_calls":
            return "tool_use"
        if reason == "length":
            full = of.completion_tokens < self._limit
            return "model_context_window_exceeded" if full else "max_tokens"
        return "stop_sequence" if self._last.stop is not None else "end_turn"

    def _changed(self, change: Change) -> Iterator[Struct]:
        part = change.part
        if change.kind == "open":
            yield out.BlockStart(part.index, self._block(part, whole=False))
        elif change.kind == "more":
            yield from self._grew(part, change.text)
        else:
            if part.kind == "thinking":
                yield out.BlockDelta(part.index, out.SignatureDelta())
            yield out.BlockStop(part.index)

    def _grew(self, part: Part, text: str) -> Iterator[Struct]:
        if part.kind == "text":
            yield out.BlockDelta(part.index, out.TextDelta(text))
        elif part.kind == "call":
            yield out.BlockDelta(part.index, out.InputJsonDelta(text))
        elif not self._hidden:
            yield out.BlockDelta(part.index, out.ThinkingDelta(text))

    def _block(self, part: Part, *, whole: bool) -> out.Block:
        if part.kind == "call":
            return out.ToolUseBlock(part.id, part.name, _input(part.text) if whole else {})
        text = part.text if whole else ""
        if part.kind == "thinking":
            return out.ThinkingBlock("" if self._hidden else text)
        return out.TextBlock(text)


def _input(arguments: str) -> dict[str, Any]:
    """The arguments of a call; what is no object is told as text: on {} a tool might act."""
    if not arguments:
        return {}
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        found = msgspec.json.decode(arguments)
        if isinstance(found, dict):
            return found
    return {INVALID: arguments}
