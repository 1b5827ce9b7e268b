"""The objects of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from llmengine.chat.delta import Delta, joined
from llmengine.chat.output import OutputParser
from llmengine.core import Output
from llmengine.server import logprobs, wire
from llmengine.server.format import Head, finish_reason


class ChatFormat:
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
        self._parsers = parsers
        self._logprobs = logprobs
        self._reasoning_tokens = 0

    def opening(self) -> Iterable[wire.ChatChunk]:
        for index in range(len(self._parsers)):
            yield self._chunk(index, wire.Delta(role="assistant", content=""))

    def chunks(self, index: int, output: Output) -> Iterable[wire.ChatChunk]:
        deltas = list(_wire_deltas(self._delta(index, output)))
        found = logprobs.of_chat(output.logprobs) if self._logprobs and output.logprobs else None
        if found and not deltas:
            deltas.append(wire.Delta())
        for delta in deltas:
            yield self._chunk(index, delta, found)
            found = None
        if reason := self._reason(index, output):
            yield self._chunk(index, wire.Delta(), reason=reason)

    def closing(self, usage: wire.Usage) -> wire.ChatChunk:
        return wire.ChatChunk(**{**self._chunk_head, "usage": self._detailed(usage)}, choices=[])

    def whole(self, outputs: Sequence[Sequence[Output]], usage: wire.Usage) -> wire.ChatCompletion:
        choices = [self._choice(index, each) for index, each in enumerate(outputs)]
        return wire.ChatCompletion(**self._head, choices=choices, usage=self._detailed(usage))

    def _choice(self, index: int, outputs: Sequence[Output]) -> wire.ChatChoice:
        delta = joined([self._delta(index, each) for each in outputs])
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
        reason = self._reason(index, outputs[-1]) or "stop"
        return wire.ChatChoice(index, message, found, reason)

    def _delta(self, index: int, output: Output) -> Delta:
        parser = self._parsers[index]
        before = parser.thinking
        delta = parser.feed(output.text)
        if before or parser.thinking or delta.reasoning:
            self._reasoning_tokens += output.tokens
        return delta if output.finish_reason is None else joined([delta, parser.finish()])

    def _reason(self, index: int, output: Output) -> wire.FinishReason | None:
        reason = finish_reason(output)
        return "tool_calls" if reason == "stop" and self._parsers[index].calls else reason

    def _detailed(self, usage: wire.Usage) -> wire.Usage:
        details = wire.CompletionTokensDetails(self._reasoning_tokens)
        return replace(usage, completion_tokens_details=details)

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
