"""Taking a model's answer apart: its thinking and its content."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["start", "opened", "reasoning", "closed", "content"]

OPEN = "<think>"
CLOSE = "</think>"


def thinking(prompt: str, template: str) -> tuple[str, str] | None:
    """The tags of the thinking that comes before what `prompt` asks for, None if none does.

    The first is empty where the prompt has opened it; otherwise it is the model's to open.
    """
    end = prompt.rstrip()
    if end.endswith(OPEN):
        return "", CLOSE
    if end.endswith(CLOSE) or OPEN not in template:
        return None
    return OPEN, CLOSE


class Delta(Struct, frozen=True):
    """What a piece of text added to the answer."""

    content: str = ""
    reasoning: str = ""

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning)


class ReasoningParser:
    """Splits `<think>...</think>` off the beginning of an answer that comes in pieces.

    Only a tag that opens the answer counts, so an answer may talk about tags. White space after
    the opening tag and around the closing one belongs to neither part. However the text is cut
    into pieces, the deltas joined are the same; a tag that may still turn out to be one is held
    back.
    """

    def __init__(self, prompt: str) -> None:
        """`prompt` is what the model continues: it may have opened the tag already."""
        inside = prompt.rstrip().endswith(OPEN)
        self._state: State = "opened" if inside else "start"
        self._held = ""

    def feed(self, text: str) -> Delta:
        if self._in("content"):
            return Delta(content=text)
        self._held += text
        reasoning = self._advance()
        return Delta(content=self._take() if self._in("content") else "", reasoning=reasoning)

    def finish(self) -> Delta:
        """What was held back, now that the answer has ended."""
        held = self._take()
        if self._in("start"):
            return Delta(content=held)
        return Delta(reasoning=held) if self._in("reasoning") else Delta()

    def _in(self, state: State) -> bool:
        return self._state == state

    def _advance(self) -> str:
        """Go through the states as far as the text leads; the thinking that is sure by now."""
        if self._in("start"):
            self._begin()
        if self._in("opened"):
            self._skip_space("reasoning")
        reasoning = self._reasoning() if self._in("reasoning") else ""
        if self._in("closed"):
            self._skip_space("content")
        return reasoning

    def _begin(self) -> None:
        text = self._held.lstrip()
        if text.startswith(OPEN):
            self._held = text[len(OPEN) :]
            self._state = "opened"
        elif not OPEN.startswith(text):
            self._state = "content"

    def _skip_space(self, then: State) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = then

    def _reasoning(self) -> str:
        before, tag, after = self._held.partition(CLOSE)
        if tag:
            self._held = after
            self._state = "closed"
            return before.rstrip()
        ready = before[: len(before) - _overlap(before, CLOSE)].rstrip()
        self._held = before[len(ready) :]
        return ready

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


def _overlap(text: str, tag: str) -> int:
    """The length of the longest end of `text` that begins `tag`."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)
