"""What clients may send to /v1/messages, with its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from llmengine.config import Overflow
from llmengine.keys import Priority
from llmengine.sampling import MAX_STOPS, StopString, overrides
from llmengine.server.bodies import Count, Kept, Messages, Salt, Schema, Seconds, Tools

if TYPE_CHECKING:
    _Samplers = Struct  # the real one is made at run time
else:
    _Samplers = overrides("MessagesSamplers", "logprobs", "max_tokens", "stop")


class Source(Struct):
    """Where an image is."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class Block(Struct):
    """Any block of a message's content; which members it needs follows from its type."""

    type: str
    text: str | None = None
    source: Source | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None


class TurnMessage(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class MessagesTool(Struct):
    name: Annotated[str, Meta(max_length=256)]
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None
    strict: bool | None = None


class ToolChoice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct):
    type: str
    budget_tokens: Count | None = None
    display: str | None = None


class OutputFormat(Struct):
    type: str
    schema: Schema = {}


class OutputConfig(Struct):
    effort: Annotated[str, Meta(max_length=32)] | None = None
    format: OutputFormat | None = None


class CountBody(_Samplers, frozen=True, kw_only=True):
    """https://docs.anthropic.com/en/api/messages-count-tokens"""

    messages: Messages[TurnMessage]
    model: str | None = None
    system: str | list[Block] | None = None
    tools: Tools[MessagesTool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None  # every prefix is cached
    chat_template_kwargs: dict[str, Any] | None = None


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """https://docs.anthropic.com/en/api/messages"""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[tuple[StopString, ...], Meta(max_length=MAX_STOPS)] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    grammar: Annotated[str, Meta(max_length=2**16)] | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    timeout: Seconds | None = None
    overflow: Overflow | None = None
    n_keep: Kept | None = None
