"""Chat templates: messages in, the text that the model continues out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from llmengine.chat.budget import BUDGET, Budget, LimitExceeded
from llmengine.chat.sandbox import TemplateEnvironment
from llmengine.core import ModelInfo
from llmengine.errors import ConfigError, InvalidRequest
from llmengine.log import printable

Message = Mapping[str, Any]

MAX_SOURCE = 2**20  # characters
CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
_PROBE = "probe-of-llmengine"
_logger = logging.getLogger("llmengine.chat")


class ChatTemplate:
    """A Jinja chat template in a sandbox, fed with the messages it understands.

    Templates differ in what they accept; what this one does with a developer role, a system
    message, content in parts and a call's arguments is found out by rendering a probe.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        """Raises ConfigError where `source` is no template, or one that does not end."""
        if len(source) > MAX_SOURCE:
            raise ConfigError(f"the chat template is longer than {MAX_SOURCE} characters")
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        BUDGET.set(Budget())
        try:
            self._template = TemplateEnvironment().from_string(source)
            self._wants_parts = self._finds_parts()
            self._knows_system = self._finds_system()
            self._knows_developer = self._finds_developer()
            self._no_tools: list[Any] | None = self._finds_no_tools()
            self._wants_objects = self._finds_objects()
        except Exception as error:  # whatever a stranger's template makes the compiler raise
            raise ConfigError(f"the chat template is not valid: {_reason(error)}") from error

    @classmethod
    def of(cls, info: ModelInfo, path: str = "") -> ChatTemplate:
        """The template in the file `path`, or the model's own, or ChatML where it has none."""
        if path:
            return cls(_read(path), info.bos, info.eos)
        if info.chat_template:
            return cls(info.chat_template, info.bos, info.eos)
        _logger.warning(
            "%s has no chat template, ChatML is used; `model.chat_template` names another",
            info.name,
        )
        return cls(CHATML, info.bos, info.eos)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        """The prompt for `messages`, shaped as OpenAI's API has them.

        Raises InvalidRequest where the template refuses them, fails or takes too much.
        """
        variables = {
            **kwargs,
            "messages": self._understood(messages),
            "tools": list(tools) if tools else self._no_tools,
            "add_generation_prompt": add_generation_prompt,
        }
        BUDGET.set(Budget())
        try:
            return self._rendered(variables)
        except Exception as error:  # whatever a stranger's template raises
            raise InvalidRequest(
                f"the chat template refuses these messages: {_reason(error)}", param="messages"
            ) from error

    def _rendered(self, variables: Mapping[str, Any]) -> str:
        return "".join(self._template.generate({**self._tokens, **variables}))

    def _understood(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        found = [self._message(each) for each in messages]
        return found if self._knows_system else _without_system(found)

    def _message(self, message: Message) -> dict[str, Any]:
        found = {name: value for name, value in message.items() if value is not None}
        if found.get("role") == "developer" and not self._knows_developer:
            found["role"] = "system"
        text = _flat(found.get("content"))
        found["content"] = [{"type": "text", "text": text}] if self._wants_parts else text
        if self._wants_objects and "tool_calls" in found:
            found["tool_calls"] = [_with_object(each) for each in found["tool_calls"]]
        return found

    def _finds_parts(self) -> bool:
        parts = [{"type": "text", "text": _PROBE}]
        return not self._shows("user", _PROBE) and self._shows("user", parts)

    def _finds_system(self) -> bool:
        return self._shows("system", self._content())

    def _finds_developer(self) -> bool:
        """Whether it knows the role by name: many print whatever role there is."""
        return "developer" in self.source and self._shows("developer", self._content())

    def _finds_no_tools(self) -> list[Any] | None:
        """What stands for no tools: some templates loop over them without asking."""
        content = self._content()
        if not self._shows("user", content) and self._shows("user", content, tools=[]):
            return []
        return None

    def _finds_objects(self) -> bool:
        """Whether a call's arguments should be an object, where OpenAI sends its JSON text."""
        function = {"name": "probe", "arguments": {_PROBE: "value"}}
        call = {"id": "call00001", "type": "function", "function": function}
        asked = {"role": "user", "content": "probe"}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        return f'"{_PROBE}"' in self._probe([asked, answer])

    def _content(self) -> Any:
        return [{"type": "text", "text": _PROBE}] if self._wants_parts else _PROBE

    def _shows(self, role: str, content: Any, tools: list[Any] | None = None) -> bool:
        messages = [{"role": role, "content": content}]
        if role != "user":
            messages.append({"role": "user", "content": "probe"})
        return _PROBE in self._probe(messages, tools)

    def _probe(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> str:
        try:
            return self._rendered({"messages": messages, "tools": tools})
        except LimitExceeded:
            raise
        except Exception:  # a refusal is an answer: the template has no use for such messages
            return ""


def _flat(content: Any) -> str:
    """The text of a message's content: a string, null or a list of text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System messages moved to the front of what the user says next."""
    found: list[dict[str, Any]] = []
    instructions: list[str] = []
    for message in messages:
        if message["role"] == "system":
            instructions.append(_flat(message["content"]))
        elif message["role"] == "user" and instructions:
            text = "\n\n".join([*instructions, _flat(message["content"])])
            parts = isinstance(message["content"], list)
            found.append(
                {**message, "content": [{"type": "text", "text": text}] if parts else text}
            )
            instructions = []
        else:
            found.append(message)
    if instructions:
        found.append({"role": "user", "content": "\n\n".join(instructions)})
    return found


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return dict(call)  # the model once wrote no JSON: its own words stay
    return {**call, "function": {**function, "arguments": arguments}}


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
