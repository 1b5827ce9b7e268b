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
from llmengine.server.bodies import ChatBody
from llmengine.server.format import Head, prompt_progress, usage
from llmengine.server.framing import PLAIN
from llmengine.server.reader import Reader


class ChatFormat:
    framing = PLAIN

    def __init__(self, head: Head, parsers: Sequence[OutputParser], body: ChatBody) -> None:
        """One parser for each choice."""
        tier = {"service_tier": "default"} if body.service_tier else {}
        self._head: dict[str, Any] = {**head.fields, **tier, "object": "chat.completion"}
        # OpenAI announces the usage by null in every chunk before it.
        announced = {"usage": None} if body.include_usage else {}
        self._chunk_head = {**self._head, "object": "chat.completion.chunk", **announced}
        self._readers = [Reader(each) for each in parsers]
        self._logprobs = bool(body.logprobs)
        self._usage = body.include_usage
        self._functions = bool(body.functions)  # in place of tools
        self._predicted = body.prediction is not None

    def opening(self) -> Iterable[wire.ChatChunk]:
        for index in range(len(self._readers)):
            yield self._chunk(index, wire.Delta(role="assistant", content=""))

    def chunks(self, index: int, output: Output) -> Iterable[wire.ChatChunk]:
        if output.progress is not None:
            progress = prompt_progress(index, output.progress)
            yield wire.ChatChunk(**self._chunk_head, choices=[], prompt_progress=progress)
            return
        reader = self._readers[index]
        deltas = list(self._deltas(joined(reader.deltas(output))))
        found = logprobs.of_chat(output.logprobs) if self._logprobs and output.logprobs else None
        if found and not deltas:
            deltas.append(wire.Delta())
        for delta in deltas:
            yield self._chunk(index, delta, found)
            found = None
        if reason := self._reason(reader, output):
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
            tool_calls=UNSET if self._functions else calls or UNSET,
            function_call=calls[0].function if self._functions and calls else UNSET,
        )
        tokens = [token for each in outputs for token in each.logprobs]
        found = logprobs.of_chat(tokens) if self._logprobs else None
        reason = self._reason(reader, outputs[-1]) or "stop"
        return wire.ChatChoice(index, message, found, reason)

    def _detailed(self, of: core.Usage) -> wire.Usage:
        thought = sum(each.reasoning_tokens for each in self._readers)
        details = wire.CompletionTokensDetails(thought)
        if self._predicted:
            details.accepted_prediction_tokens = of.accepted_prediction_tokens
            details.rejected_prediction_tokens = of.rejected_prediction_tokens
        return replace(usage(of), completion_tokens_details=details)

    def _reason(self, reader: Reader, output: Output) -> wire.FinishReason | None:
        found = reader.reason(output)
        return "function_call" if self._functions and found == "tool_calls" else found

    def _chunk(
        self,
        index: int,
        delta: wire.Delta,
        found: wire.ChatLogprobs | None = None,
        reason: wire.FinishReason | None = None,
    ) -> wire.ChatChunk:
        choice = wire.ChatChunkChoice(index, delta, found, reason)
        return wire.ChatChunk(**self._chunk_head, choices=[choice])

    def _deltas(self, delta: Delta) -> Iterator[wire.Delta]:
        """What is said before what is called: a call ends the answer."""
        said, thought = delta.content or UNSET, delta.reasoning or UNSET
        if said or thought:
            yield wire.Delta(content=said, reasoning_content=thought)
        for call in delta.calls:
            if call.name:
                begun = wire.CalledFunctionDelta("", call.name)
                yield self._called(wire.ToolCallDelta(call.index, begun, call.id, "function"))
            if call.arguments:
                more = wire.CalledFunctionDelta(call.arguments)
                yield self._called(wire.ToolCallDelta(call.index, more))

    def _called(self, call: wire.ToolCallDelta) -> wire.Delta:
        if self._functions:
            return wire.Delta(function_call=call.function)
        return wire.Delta(tool_calls=[call])
