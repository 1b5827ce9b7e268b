"""The objects of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET

from llmengine.chat.output import Delta, ReasoningParser
from llmengine.core import Output
from llmengine.server import logprobs, wire
from llmengine.server.format import Head, finish_reason


class ChatFormat:
    def __init__(
        self, head: Head, prompt: str, choices: int, *, logprobs: bool, usage: bool
    ) -> None:
        """`usage`: whether the stream tells it at its end."""
        self._head = {**head.fields, "object": "chat.completion"}
        # OpenAI announces the usage by null in every chunk before it.
        announced = {"usage": None} if usage else {}
        self._chunk_head: dict[str, Any] = {
            **head.fields,
            "object": "chat.completion.chunk",
            **announced,
        }
        self._parsers = [ReasoningParser(prompt) for _ in range(choices)]
        self._logprobs = logprobs

    def opening(self) -> Iterable[wire.ChatChunk]:
        for index in range(len(self._parsers)):
            yield self._chunk(index, wire.Delta(role="assistant", content=""))

    def chunks(self, index: int, output: Output) -> Iterable[wire.ChatChunk]:
        delta = self._delta(index, output)
        found = logprobs.of_chat(output.logprobs) if self._logprobs and output.logprobs else None
        if delta or found:
            yield self._chunk(
                index,
                wire.Delta(
                    content=delta.content or UNSET, reasoning_content=delta.reasoning or UNSET
                ),
                found,
            )
        if reason := finish_reason(output):
            yield self._chunk(index, wire.Delta(), reason=reason)

    def closing(self, usage: wire.Usage) -> wire.ChatChunk:
        return wire.ChatChunk(**{**self._chunk_head, "usage": usage}, choices=[])

    def whole(self, outputs: Sequence[Output], usage: wire.Usage) -> wire.ChatCompletion:
        choices = [self._choice(index, output) for index, output in enumerate(outputs)]
        return wire.ChatCompletion(**self._head, choices=choices, usage=usage)

    def _choice(self, index: int, output: Output) -> wire.ChatChoice:
        delta = self._delta(index, output)
        return wire.ChatChoice(
            index,
            wire.Message(content=delta.content, reasoning_content=delta.reasoning or UNSET),
            logprobs.of_chat(output.logprobs) if self._logprobs else None,
            finish_reason(output) or "stop",
        )

    def _delta(self, index: int, output: Output) -> Delta:
        parser = self._parsers[index]
        delta = parser.feed(output.text)
        if output.finish_reason is None:
            return delta
        rest = parser.finish()
        return Delta(delta.content + rest.content, delta.reasoning + rest.reasoning)

    def _chunk(
        self,
        index: int,
        delta: wire.Delta,
        found: wire.ChatLogprobs | None = None,
        reason: wire.FinishReason | None = None,
    ) -> wire.ChatChunk:
        choice = wire.ChatChunkChoice(index, delta, found, reason)
        return wire.ChatChunk(**self._chunk_head, choices=[choice])
