"""A bound on the tokens that a model thinks before it answers."""

from __future__ import annotations

import codecs

from llmengine.llama.model import Model

_CHARACTER = 3  # tokens that a begun character may still take before the block is closed anyway


class ThinkingBudget:
    """Counts the tokens within the block that opens an answer; at the bound they close it.

    The tags are found in the text, however it is cut into tokens.
    """

    def __init__(self, model: Model, tags: tuple[str, str], budget: int) -> None:
        """`tags` are those of `SamplingParams.thinking_tags`."""
        self._model = model
        self._open, self._close = (each.encode() for each in tags)
        self._closing = model.tokenize(tags[1], special=True)
        self._budget = budget
        self._spent = 0  # tokens within the block
        self._closed = 0  # tokens of the closing tag that were due and came
        self._text = b""  # what may hold the beginning of a tag
        self._inside = not self._open
        self._over = False

    @property
    def due(self) -> int | None:
        """The token that has to come next; None where the model is free."""
        beyond = self._spent - self._budget
        if self._over or not self._inside or beyond < 0:
            return None
        if not self._closed and beyond < _CHARACTER and _unfinished(self._text):
            return None
        return self._closing[self._closed]

    def saw(self, token: int) -> None:
        """Go on by the token that came."""
        if self._over:
            return
        self._closed = self._closed + 1 if token == self.due else 0
        self._text += self._model.piece(token)
        if self._inside:
            self._spent += 1
        else:
            self._begin()
        if self._inside:
            self._over = self._close in self._text or self._closed == len(self._closing)
            self._text = self._text[-len(self._close) :]

    def _begin(self) -> None:
        """See whether the answer opens with the tag; it may, after white space."""
        begun = self._text.lstrip()
        if begun.startswith(self._open):
            self._inside, self._text = True, begun[len(self._open) :]
        elif not self._open.startswith(begun):
            self._over = True


def _unfinished(text: bytes) -> bool:
    """Whether the text ends within a character."""
    return codecs.utf_8_decode(text, "replace", False)[1] < len(text)
