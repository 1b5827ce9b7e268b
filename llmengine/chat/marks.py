"""Which marks of a format are control tokens of a model's vocabulary."""

from __future__ import annotations

import functools

from llmengine.chat.template import ChatTemplate
from llmengine.core import Host


class Marks:
    """Control tokens have no text unless a request asks for it, and no text makes one."""

    def __init__(self, host: Host, template: ChatTemplate) -> None:
        self._host = host
        self._template = template
        self.controls = functools.cache(self._controls)

    @functools.cached_property
    def in_thinking(self) -> bool:
        """Whether thinking is told from content by control tokens."""
        tags = self._template.tags
        messages = self._template.format.messages
        own = messages.marks if messages else (tags.open, tags.close)
        return any(map(self.controls, (*own, *self._template.format.drops)))

    @functools.cached_property
    def in_calls(self) -> bool:
        return any(map(self.controls, self._template.format.style.marks))

    def _controls(self, text: str) -> tuple[int, ...]:
        """The tokens of `text` where it is control tokens, () where it is plain text."""
        tokens = self._host.tokenize(text, special=True)
        return () if tokens == self._host.tokenize(text) else tuple(tokens)
