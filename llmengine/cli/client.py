"""How a command asks a host: the chat template before it, the reasoning parser after it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llmengine.chat import overflow
from llmengine.chat.marks import Marks
from llmengine.chat.output import OutputParser
from llmengine.chat.prompt import Prompt
from llmengine.chat.template import ChatTemplate
from llmengine.cli.answer import Answer
from llmengine.config import Overflow
from llmengine.core import Host, Request
from llmengine.sampling import SamplingParams, advised


class Client:
    """The one user of a host in this process."""

    def __init__(self, host: Host, template_path: str = "", policy: Overflow = "error") -> None:
        self.host = host
        self._policy = policy
        self.info = host.info()
        self._template = ChatTemplate.of(self.info, template_path)
        self._marks = Marks(host, self._template)

    def defaults(self, settings: SamplingParams) -> SamplingParams:
        """The parameters of an answer for which nothing else is said."""
        return advised(settings, self.info.sampling)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, params: SamplingParams, think: bool
    ) -> Answer:
        """The answer to `messages`; raises InvalidRequest where the template refuses them."""
        variables = self._template.thinking(enable=think)
        made = overflow.of_messages(
            self.host, self._template, messages, self._policy,
            wanted=params.max_tokens, **variables,
        )  # fmt: skip
        tags = self._template.thought_tags(made.text)
        params = msgspec.structs.replace(params, thinking_tags=tags)
        return self._answer(made, params, self._template.parser(made.text))

    def complete(self, text: str, *, params: SamplingParams) -> Answer:
        """How the model goes on from `text`, without a template."""
        made = overflow.of_text(self.host, text, self._policy, wanted=params.max_tokens)
        return self._answer(made, params, None)

    def _answer(
        self, prompt: Prompt, params: SamplingParams, parser: OutputParser | None
    ) -> Answer:
        special = parser is not None and self._marks.in_thinking
        request = Request(
            id=uuid.uuid4().hex,
            prompt=prompt.tokens,
            params=params,
            special=special,
            boundaries=prompt.boundaries,
            keep=prompt.keep,
            media=prompt.media,
        )
        return Answer(self.host, request, parser, prompt)
