"""The parts of one answer, in the order in which the model wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from llmengine.chat.delta import CallDelta, Delta
from llmengine.core import TokenLogprob

Kind = Literal["thinking", "text", "call"]


class Part(Struct):
    """Thinking, text, or one call, whose text is its arguments."""

    kind: Kind
    index: int  # among all parts
    pieces: list[str] = []
    id: str = ""  # of a call
    name: str = ""  # of what is called
    logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Change(Struct):
    """A part begins, grows by `text`, or is whole."""

    kind: Literal["open", "more", "close"]
    part: Part
    text: str = ""
    logprobs: Sequence[TokenLogprob] = ()


class Parts:
    """Collects the deltas of an answer. However they are cut, the parts are the same."""

    def __init__(self) -> None:
        self.all: list[Part] = []
        self._open = False
        self._logprobs: list[TokenLogprob] = []  # of text that the parser holds back

    def add(
        self, deltas: Iterable[Delta], logprobs: Sequence[TokenLogprob] = ()
    ) -> Iterator[Change]:
        """What `deltas` of one output change; `logprobs` go to the text that they add."""
        deltas = list(deltas)
        self._logprobs += logprobs
        for delta in deltas:
            if delta.reasoning:
                yield from self._said("thinking", delta.reasoning)
            if delta.content:
                yield from self._said("text", delta.content)
            for call in delta.calls:
                yield from self._called(call)
        if deltas and not deltas[-1].content:
            self._logprobs.clear()  # they are of something else than text

    def finish(self) -> Iterator[Change]:
        """The end: an answer that neither says nor calls anything has an empty text."""
        if all(each.kind == "thinking" for each in self.all):
            yield from self._begin(Part("text", len(self.all)))
        yield from self._end()

    def _said(self, kind: Kind, text: str) -> Iterator[Change]:
        if not self._open or self.all[-1].kind != kind:
            yield from self._begin(Part(kind, len(self.all)))
        part = self.all[-1]
        part.pieces.append(text)
        logprobs: list[TokenLogprob] = []
        if kind == "text":
            logprobs, self._logprobs = self._logprobs, []
            part.logprobs += logprobs
        yield Change("more", part, text, logprobs)

    def _called(self, call: CallDelta) -> Iterator[Change]:
        if call.name:
            yield from self._begin(Part("call", len(self.all), id=call.id, name=call.name))
        if call.arguments:
            part = self.all[-1]
            part.pieces.append(call.arguments)
            yield Change("more", part, call.arguments)

    def _begin(self, part: Part) -> Iterator[Change]:
        yield from self._end()
        self.all.append(part)
        self._open = True
        yield Change("open", part)

    def _end(self) -> Iterator[Change]:
        if self._open:
            self._open = False
            yield Change("close", self.all[-1])
