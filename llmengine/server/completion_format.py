"""The objects of /v1/completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmengine import core
from llmengine.core import Output
from llmengine.server import wire
from llmengine.server.format import Head, finish_reason, merged, prompt_progress, usage
from llmengine.server.framing import PLAIN
from llmengine.server.logprobs import CompletionLogprobs, mean


class CompletionFormat:
    framing = PLAIN

    def __init__(
        self, head: Head, echoes: Sequence[str], *, prompts: int, logprobs: int | None, usage: bool
    ) -> None:
        """`echoes`: what stands before the text of each choice that is told."""
        self._head: dict[str, Any] = {**head.fields, "object": "text_completion"}
        self._chunk_head = {**self._head, "usage": None} if usage else self._head
        self._usage = usage
        self._echoes = echoes
        self._prompts = prompts
        self._tops = logprobs
        self._logprobs = [CompletionLogprobs() for _ in echoes]

    def opening(self) -> Iterable[wire.Completion]:
        for index, echo in enumerate(self._echoes):
            if echo:
                choice = wire.CompletionChoice(index, echo)
                yield wire.Completion(**self._chunk_head, choices=[choice])

    def chunks(self, index: int, output: Output) -> Iterable[wire.Completion]:
        if output.progress is not None:
            progress = prompt_progress(index, output.progress)
            yield wire.Completion(**self._chunk_head, choices=[], prompt_progress=progress)
        elif output.text or output.logprobs or output.finish_reason:
            choice = self._choice(index, output)
            yield wire.Completion(**self._chunk_head, choices=[choice])

    async def closing(self, of: core.Usage) -> Iterable[wire.Completion]:
        if self._usage:
            return [wire.Completion(**{**self._chunk_head, "usage": usage(of)}, choices=[])]
        return []

    def failed(self, error: wire.Error, status: int) -> Iterable[wire.ErrorBody]:
        return [wire.ErrorBody(error)]

    async def whole(self, outputs: Sequence[Sequence[Output]], of: core.Usage) -> wire.Completion:
        choices = [
            self._choice(index, merged(each), self._echoes[index])
            for index, each in enumerate(self._best(outputs))
        ]
        return wire.Completion(**self._head, choices=choices, usage=usage(of))

    def _best(self, outputs: Sequence[Sequence[Output]]) -> list[Sequence[Output]]:
        """Of the answers to each prompt those to be told, the likeliest first, if not all are."""
        if len(outputs) == len(self._echoes):
            return list(outputs)
        computed, told = len(outputs) // self._prompts, len(self._echoes) // self._prompts
        ranked = (
            sorted(outputs[at : at + computed], key=mean, reverse=True)
            for at in range(0, len(outputs), computed)
        )
        return [each for answers in ranked for each in answers[:told]]

    def _choice(self, index: int, output: Output, echo: str = "") -> wire.CompletionChoice:
        found = None
        if self._tops is not None:
            found = self._logprobs[index].of(output.logprobs, tops=self._tops > 0)
        return wire.CompletionChoice(index, echo + output.text, found, finish_reason(output))
