"""The messages of Anthropic's API, whose content is blocks, made into those of a chat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from llmengine.errors import InvalidRequest
from llmengine.server.bodies import CalledFunction, ContentPart, Message, ToolCall
from llmengine.server.dialect import joined
from llmengine.server.messages_body import Block, TurnMessage

T = TypeVar("T")


def messages(given: Iterable[TurnMessage]) -> list[Message]:
    """Raises InvalidRequest, which names what is wrong in which block."""
    return [each for at, turn in enumerate(given) for each in _turn(f"messages[{at}]", turn)]


def text_of(content: str | Sequence[Block] | None, where: str) -> str:
    """The text of blocks that are text; `where` names them in refusals."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n\n".join(_text(each, f"{where}[{at}]") for at, each in enumerate(content))


def _turn(where: str, turn: TurnMessage) -> Iterator[Message]:
    where = f"{where}.content"
    if isinstance(turn.content, str):
        yield Message(turn.role, turn.content)
    elif turn.role == "system":
        yield Message("system", text_of(turn.content, where))
    elif turn.role == "assistant":
        yield _answer(where, turn.content)
    else:
        yield from _request(where, turn.content)


def _request(where: str, content: Sequence[Block]) -> Iterator[Message]:
    """Results of tools are messages of their own."""
    parts: list[ContentPart] = []
    for at, block in enumerate(content):
        if block.type != "tool_result":
            parts.append(_part(block, f"{where}[{at}]"))
            continue
        if parts:
            yield Message("user", joined(parts))
            parts = []
        yield _result(block, f"{where}[{at}]")
    if parts or not content:
        yield Message("user", joined(parts))


def _result(block: Block, where: str) -> Message:
    id = _needed(block.tool_use_id, f"{where}.tool_use_id")
    blocks = block.content
    if blocks is None or isinstance(blocks, str):
        parts = [ContentPart("text", blocks or "")]
    else:
        parts = [_part(each, f"{where}.content[{at}]") for at, each in enumerate(blocks)]
    result = joined(parts)
    if block.is_error:
        error = ContentPart("text", "Error: ")
        result = f"Error: {result}" if isinstance(result, str) else [error, *result]
    return Message("tool", result, tool_call_id=id)


def _part(block: Block, where: str) -> ContentPart:
    if block.type != "image":
        return ContentPart("text", _text(block, where))
    source = _needed(block.source, f"{where}.source")
    if source.type == "url":
        return ContentPart("image_url", image_url=_needed(source.url, f"{where}.source.url"))
    if source.type != "base64":
        raise InvalidRequest(
            f"`{where}.source.type`: {source.type[:50]!r} is not offered, send base64 or a url",
            param=f"{where}.source.type",
            code="unsupported_content",
        )
    data = _needed(source.data, f"{where}.source.data")
    return ContentPart("image_url", image_url=f"data:;base64,{data}")


def _answer(where: str, content: Sequence[Block]) -> Message:
    """Thinking that was redacted is nothing that this model could read."""
    message = Message("assistant")
    texts, thoughts, calls = [], [], []
    for at, block in enumerate(content):
        if block.type == "thinking":
            thoughts.append(_needed(block.thinking, f"{where}[{at}].thinking"))
        elif block.type == "tool_use":
            calls.append(_call(f"{where}[{at}]", block))
        elif block.type != "redacted_thinking":
            texts.append(_text(block, f"{where}[{at}]"))
    message.content = "\n\n".join(texts) if texts or not calls else None
    message.reasoning_content = "\n\n".join(filter(None, thoughts)) or None
    message.tool_calls = calls or None
    return message


def _call(where: str, block: Block) -> ToolCall:
    name = _needed(block.name, f"{where}.name")
    arguments = _needed(block.input, f"{where}.input")
    return ToolCall(CalledFunction(name, arguments), _needed(block.id, f"{where}.id"))


def _text(block: Block, where: str) -> str:
    if block.type != "text":
        raise InvalidRequest(
            f"`{where}.type`: {block.type[:50]!r} is not offered, text and images are",
            param=f"{where}.type",
            code="unsupported_content",
        )
    return _needed(block.text, f"{where}.text")


def _needed(value: T | None, param: str) -> T:
    if value is None:
        raise InvalidRequest(f"`{param}` is missing", param=param)
    return value
