"""The objects of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from llmengine import core
from llmengine.chat.delta import Delta, joined
from llmengine.chat.output import OutputParser
from llmengine.core import Output
from llmengine.server import logprobs, wire
from llmengine.server.format import Head, usage
from llmengine.server.framing import PLAIN
from llmengine.server.reader import Reader


class ChatFormat:
    framing = PLAIN

    def __init__(
        self, head: Head, parsers: Sequence[OutputParser], *, logprobs: bool, usage: bool
    ) -> None:
        """One parser for each choice; `usage`: whether the stream tells it at its end."""
        self._head = {**head.fields, "object": "chat.completion"}
        # OpenAI announces the usage by null in every chunk before it.
        announced = {"usage": None} if usage else {}
        self._chunk_head: dict[str, Any] = {
            **head.fields,
            "object": "chat.completion.chunk",
            **announced,
        }
        self._readers = [Reader(each) for each in parsers]
        self._logprobs = logprobs
        self._usage = usage

    def opening(self) -> Iterable[wire.ChatChunk]:
        for index in range(len(self._readers)):
            yield self._chunk(index, wire.Delta(role="assistant", content=""))

    def chunks(self, index: int, output: Output) -> Iterable[wire.ChatChunk]:
        reader = self._readers[index]
        deltas = list(_wire_deltas(joined(reader.deltas(output))))
        found = logprobs.of_chat(output.logprobs) if self._logprobs and output.logprobs else None
        if found and not deltas:
            deltas.append(wire.Delta())
        for delta in deltas:
            yield self._chunk(index, delta, found)
            found = None
        if reason := reader.reason(output):
            yield self._chunk(index, wire.Delta(), reason=reason)

    async def closing(self, of: core.Usage) -> Iterable[wire.ChatChunk]:
        if self._usage:
            last = {**self._chunk_head, "usage": self._detailed(of)}
            return [wire.ChatChunk(**last, choices=[])]
        return []

    def failed(self, error: wire.Error, status: int) -> Iterable[wire.ErrorBody]:
        return [wire.ErrorBody(error)]

    async def whole(
        self, outputs: Sequence[Sequence[Output]], of: core.Usage
    ) -> wire.ChatCompletion:
        choices = [self._choice(index, each) for index, each in enumerate(outputs)]
        return wire.ChatCompletion(**self._head, choices=choices, usage=self._detailed(of))

    def _choice(self, index: int, outputs: Sequence[Output]) -> wire.ChatChoice:
        reader = self._readers[index]
        delta = joined(delta for each in outputs for delta in reader.deltas(each))
        calls = [
            wire.ToolCall(each.id, wire.CalledFunction(each.name, each.arguments))
            for each in delta.calls
        ]
        message = wire.Message(
            content=delta.content or (None if calls else ""),
            reasoning_content=delta.reasoning or UNSET,
            tool_calls=calls or UNSET,
        )
        tokens = [token for each in outputs for token in each.logprobs]
        found = logprobs.of_chat(tokens) if self._logprobs else None
        reason = reader.reason(outputs[-1]) or "stop"
        return wire.ChatChoice(index, message, found, reason)

    def _detailed(self, of: core.Usage) -> wire.Usage:
        thought = sum(each.reasoning_tokens for each in self._readers)
        return replace(usage(of), completion_tokens_details=wire.CompletionTokensDetails(thought))

    def _chunk(
        self,
        index: int,
        delta: wire.Delta,
        found: wire.ChatLogprobs | None = None,
        reason: wire.FinishReason | None = None,
    ) -> wire.ChatChunk:
        choice = wire.ChatChunkChoice(index, delta, found, reason)
        return wire.ChatChunk(**self._chunk_head, choices=[choice])


def _wire_deltas(delta: Delta) -> Iterator[wire.Delta]:
    """What is said before what is called: a call ends the answer."""
    if delta.content or delta.reasoning:
        yield wire.Delta(content=delta.content or UNSET, reasoning_content=delta.reasoning or UNSET)
    for call in delta.calls:
        if call.name:
            begun = wire.CalledFunctionDelta("", call.name)
            yield _called(wire.ToolCallDelta(call.index, begun, call.id, "function"))
        if call.arguments:
            yield _called(wire.ToolCallDelta(call.index, wire.CalledFunctionDelta(call.arguments)))


def _called(call: wire.ToolCallDelta) -> wire.Delta:
    return wire.Delta(tool_calls=[call])
