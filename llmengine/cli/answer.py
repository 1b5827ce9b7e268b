"""One answer of a host, read by a plain loop: no asyncio, no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue

from msgspec.structs import replace

from llmengine.chat.delta import Delta, joined
from llmengine.chat.output import OutputParser
from llmengine.chat.prompt import Prompt
from llmengine.core import FinishReason, Host, Output, Request, Timings, Usage
from llmengine.errors import EngineError

TICK = 0.1  # seconds between empty deltas while nothing comes, so that a screen can be redrawn


class Answer:
    """A request on its way: iterate for its deltas, then ask what it took.

    The iterator submits the request, gives an empty delta every `TICK` seconds without text,
    and cancels the request however it is left.
    """

    def __init__(
        self,
        host: Host,
        request: Request,
        parser: OutputParser | None,
        prompt: Prompt | None = None,
    ) -> None:
        self.content = ""
        self.reasoning = ""
        self.finish_reason: FinishReason | None = None
        self.usage = Usage(0, 0)
        self.timings = Timings(0.0, 0.0, 0.0)
        self.ttft: float | None = None  # seconds from submission to the first text
        self._prompt = prompt or Prompt("", request.prompt)
        self._host = host
        self._request = request
        self._parser = parser
        self._outputs: SimpleQueue[Output | None] = SimpleQueue()
        self._stopping = False

    def stop(self) -> None:
        """Have the answer end here; fit for a signal handler, as `SimpleQueue` is reentrant."""
        self._stopping = True
        self._outputs.put(None)

    def __iter__(self) -> Iterator[Delta]:
        """Raises what `Host.submit` raises, and the request's own error at its end."""
        started = time.monotonic()
        self._host.submit(self._request, self._put)
        try:
            while self.finish_reason is None:
                delta = self._next()
                if self.ttft is None and (delta.content or delta.reasoning):
                    self.ttft = time.monotonic() - started
                self.content += delta.content
                self.reasoning += delta.reasoning
                yield delta
        finally:
            self._host.cancel(self._request.id)

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding, 0 where nothing was decoded."""
        return self.usage.completion_tokens / self.timings.decode if self.timings.decode else 0.0

    def _put(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._outputs.put(output)

    def _next(self) -> Delta:
        try:
            output = self._outputs.get(timeout=TICK)
        except Empty:
            return Delta()
        if self._stopping:
            self._stopping = False  # once is enough, however much is still on its way
            self._host.cancel(self._request.id)
        return self._take(output) if output else Delta()

    def _take(self, output: Output) -> Delta:
        if output.error is not None:
            raise EngineError.from_info(output.error)
        delta = self._parse(output.text, last=output.finish_reason is not None)
        self.finish_reason = output.finish_reason
        self.usage = self._counted(output.usage) if output.usage else self.usage
        self.timings = output.timings or self.timings
        return delta

    def _counted(self, usage: Usage) -> Usage:
        """With what was left out of the prompt."""
        return replace(
            usage,
            dropped_tokens=usage.dropped_tokens + self._prompt.dropped_tokens,
            dropped_messages=self._prompt.dropped_messages,
        )

    def _parse(self, text: str, last: bool) -> Delta:
        if self._parser is None:
            return Delta(content=text)
        delta = self._parser.feed(text)
        if not last:
            return delta
        return joined([delta, self._parser.finish()])


def dropped(answer: Answer) -> str:
    """What the model did not see, or saw no longer; empty if there is nothing to tell."""
    counts = {"messages": answer.usage.dropped_messages, "tokens": answer.usage.dropped_tokens}
    told = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"(the context is full: the oldest {told} were dropped)" if told else ""


def summary(answer: Answer) -> str:
    """`42 tokens, 135.2 tokens/s, first after 0.05 s; prompt of 230 tokens, 200 cached`"""
    usage = answer.usage
    first = "" if answer.ttft is None else f", first after {answer.ttft:.2f} s"
    return (
        f"{usage.completion_tokens} tokens, {answer.tokens_per_second:.1f} tokens/s{first};"
        f" prompt of {usage.prompt_tokens} tokens, {usage.cached_tokens} cached"
    )
