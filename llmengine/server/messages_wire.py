"""The objects of /v1/messages: a message of blocks, and the events in which it streams."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from llmengine.server import wire

PATH = "/v1/messages"  # what the paths of its endpoints begin with

StopReason = Literal[
    "end_turn", "max_tokens", "model_context_window_exceeded", "stop_sequence", "tool_use"
]


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str
    citations: None = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""  # nothing is checked when it comes back


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class MessagesUsage(Struct):
    """All that was read is `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0  # what Anthropic bills for writing: nothing here
    dropped_tokens: int | UnsetType = UNSET  # by `overflow`, as the next one
    dropped_messages: int | UnsetType = UNSET


class AnsweredMessage(Struct, kw_only=True, tag_field="type", tag="message"):
    """https://docs.anthropic.com/en/api/messages"""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block] = []
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessagesUsage


class InputTokens(Struct):
    input_tokens: int


class MessagesError(Struct):
    type: str
    message: str


class MessagesErrorBody(Struct, tag_field="type", tag="error"):
    error: MessagesError
    request_id: str


_ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def messages_error(error: wire.Error, status: int, request: str) -> MessagesErrorBody:
    """`error`, which has that HTTP status, as Anthropic words it."""
    kind = _ERRORS.get(status, "invalid_request_error" if status < 500 else "api_error")
    return MessagesErrorBody(MessagesError(kind, error.message), request)


class MessageStart(Struct, tag_field="type", tag="message_start"):
    message: AnsweredMessage


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str = ""


class InputJsonDelta(Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    index: int


class Stop(Struct):
    stop_reason: StopReason | None
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    delta: Stop
    usage: MessagesUsage


class MessageStop(Struct, tag_field="type", tag="message_stop"): ...


class Ping(Struct, tag_field="type", tag="ping"): ...


StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping
