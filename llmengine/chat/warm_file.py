"""Files of prompts that are to be computed before anybody asks."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from llmengine.chat import prompt
from llmengine.chat.prompt import Prompt
from llmengine.chat.template import ChatTemplate
from llmengine.config import CacheConfig
from llmengine.core import Host
from llmengine.errors import ConfigError, InvalidRequest

MAX_BYTES = 16 << 20  # more than any context holds


class _Part(Struct):
    text: str
    type: str = "text"


class _Message(Struct, omit_defaults=True):
    role: Annotated[str, Meta(min_length=1)]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


_Messages = Annotated[list[_Message], Meta(min_length=1)]


class Chat(Struct, forbid_unknown_fields=True):
    messages: _Messages
    tools: list[dict[str, Any]] | None = None


class WarmFile(Struct, frozen=True):
    """A file as it was read: text, or the messages of a chat."""

    path: str
    text: str = ""
    chat: Chat | None = None

    def prompt(self, host: Host, template: ChatTemplate) -> Prompt:
        """What all prompts begin with that go on from here; raises ConfigError."""
        try:
            if self.chat is None:
                return prompt.of_text_beginning(host, self.text)
            messages = msgspec.to_builtins(self.chat.messages)
            return prompt.of_beginning(host, template, messages, tools=self.chat.tools)
        except InvalidRequest as error:
            raise ConfigError(f"{self.path}: {error.message}") from error


def read(path: str) -> WarmFile:
    """Raises ConfigError for what is no text, and for *.json that is no chat."""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1).removeprefix(BOM_UTF8)  # as Windows editors begin it
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        if path.endswith(".json"):
            return WarmFile(path, chat=_chat(data))
        text = data.decode()
    except (OSError, ValueError) as error:  # bad JSON and bad UTF-8 as well
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty")
    return WarmFile(path, text)


def read_all(settings: CacheConfig) -> list[WarmFile]:
    """The files that `cache.warm` names. Raises ConfigError for what `read` refuses."""
    if settings.warm and not settings.enabled:
        raise ConfigError("cache.warm needs cache.enabled = true")
    try:
        return [read(path) for path in settings.warm]
    except ConfigError as error:
        raise ConfigError(f"cache.warm: {error.message}") from error


def _chat(data: bytes) -> Chat:
    if data.lstrip().startswith(b"["):
        return Chat(msgspec.json.decode(data, type=_Messages))
    return msgspec.json.decode(data, type=Chat)
