"""Chat templates: messages in, the text that the model continues out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from llmengine.chat.budget import BUDGET, PROBING, Budget
from llmengine.chat.formats import GENERIC, format_of
from llmengine.chat.messages import Message, understood
from llmengine.chat.output import OutputParser
from llmengine.chat.reasoning import tags_of
from llmengine.chat.sandbox import TemplateEnvironment
from llmengine.chat.tools import Tool
from llmengine.chat.traits import traits_of
from llmengine.core import ModelInfo
from llmengine.errors import ConfigError, InvalidRequest
from llmengine.log import printable

MAX_SOURCE = 2**20  # characters
CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
_logger = logging.getLogger("llmengine.chat")


class ChatTemplate:
    """A Jinja chat template in a sandbox, fed with the messages it understands.

    Templates differ in what they accept and in how their models write calls of tools; what this
    one does is found out by rendering probes.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        """Raises ConfigError where `source` is no template, or one that does not end."""
        if len(source) > MAX_SOURCE:
            raise ConfigError(f"the chat template is longer than {MAX_SOURCE} characters")
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        BUDGET.set(Budget(PROBING))
        try:
            self._template = TemplateEnvironment().from_string(source)
            self._traits = traits_of(source, self._rendered)
        except Exception as error:  # whatever a stranger's template makes the compiler raise
            raise ConfigError(f"the chat template is not valid: {_reason(error)}") from error
        shown = source + self._traits.example
        self.format = format_of(shown) or GENERIC
        self.tags = tags_of(shown)

    @classmethod
    def of(cls, info: ModelInfo, path: str = "") -> ChatTemplate:
        """The template in the file `path`, or the model's own, or ChatML where it has none."""
        if path:
            return cls(_read(path), info.bos, info.eos)
        if info.chat_template:
            return cls(info.chat_template, info.bos, info.eos)
        if info.generates:
            _logger.warning(
                "%s has no chat template, ChatML is used; `model.chat_template` names another",
                info.name,
            )
        return cls(CHATML, info.bos, info.eos)

    def parser(
        self, prompt: str, tools: Sequence[Tool] = (), *, most: int | None = None
    ) -> OutputParser:
        """A parser for what the model answers to `prompt`; see there for `most`."""
        return OutputParser(prompt, tags=self.tags, format=self.format, tools=tools, most=most)

    def tags_before(self, prompt: str) -> tuple[str, str] | None:
        """The tags of the thinking that comes before an answer to `prompt`, None if none does.

        The first is empty where the prompt has opened it; otherwise it is the model's to open.
        """
        if self.tags.opened_by(prompt):
            return "", self.tags.close
        if prompt.rstrip().endswith(self.tags.close) or self.tags.open not in self.source:
            return None
        return self.tags.open, self.tags.close

    def thought_tags(self, prompt: str) -> tuple[str, str] | None:
        """The tags of the thinking in the answer to `prompt`, as `SamplingParams` has them."""
        messages = self.format.messages
        return messages.thought if messages else self.tags_before(prompt)

    def thinking(self, *, enable: bool, effort: str = "") -> dict[str, Any]:
        """The variables with which this template has the model think, or not."""
        found: dict[str, Any] = {
            name: enable for name in ("enable_thinking", "thinking") if name in self.source
        }
        if "thinking_mode" in self.source:
            found["thinking_mode"] = "enabled" if enable else "disabled"
        if effort and "reasoning_effort" in self.source:
            found["reasoning_effort"] = effort
        return found

    @functools.cached_property
    def opens_when_asked(self) -> bool:
        """Whether these models think only if asked to, which is by a prompt that opens it."""
        probe = [{"role": "user", "content": "Hello"}]
        try:
            plain, asked = self.render(probe), self.render(probe, **self.thinking(enable=True))
        except InvalidRequest:
            return False
        return self.tags.opened_by(asked) and not self.tags.opened_by(plain)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        """The prompt for `messages` and `tools`, shaped as OpenAI's API has them.

        Raises InvalidRequest where the template refuses them, fails or takes too much.
        """
        BUDGET.set(Budget())
        try:
            variables = {
                "tools": None,
                **self._traits.extras,
                **kwargs,
                "messages": understood(messages, tools or (), self._traits, self.format.style),
                "add_generation_prompt": add_generation_prompt,
            }
            if tools:
                variables |= self._traits.tool_variables(tools)
            return self._rendered(variables)
        except Exception as error:  # whatever a stranger's template raises
            raise InvalidRequest(
                f"the chat template refuses these messages: {_reason(error)}", param="messages"
            ) from error

    def _rendered(self, variables: Mapping[str, Any]) -> str:
        return "".join(self._template.generate({**self._tokens, **variables}))


def _read(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_SOURCE + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.chat_template: {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
    return printable(text)[:500]
