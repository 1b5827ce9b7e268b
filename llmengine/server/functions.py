"""`functions` and `function_call`: what OpenAI's API had before tools, in terms of those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from llmengine.errors import InvalidRequest
from llmengine.server.bodies import ChatBody, Message, Tool, ToolCall

# What the refusals of tools are called here.
NAMES = {
    r"tools\[(\d+)\]\.function": r"functions[\1]",
    r"tools": "functions",
    r"tool_choice": "function_call",
}


def modern(body: ChatBody) -> ChatBody:
    """`body` with tools for functions; raises InvalidRequest where it has both."""
    found = replace(body, messages=_messages(body.messages))
    if not body.functions:
        return found
    if body.tools:
        raise InvalidRequest("`functions` and `tools` exclude each other", param="functions")
    return replace(
        found,
        tools=[Tool("function", each) for each in body.functions],
        tool_choice=_choice(body.function_call),
        parallel_tool_calls=False,
    )


def _choice(given: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if given in (None, "auto", "none"):
        return given
    if isinstance(given, dict) and isinstance(given.get("name"), str):
        return {"type": "function", "function": {"name": given["name"]}}
    raise InvalidRequest(
        '`function_call` has to be "auto", "none" or {"name": ...}', param="function_call"
    )


def _messages(messages: Sequence[Message]) -> list[Message]:
    """A function's message answers the call before it."""
    found, count = [], 0
    for each in messages:
        if each.function_call is not None:
            count += 1
            calls = [ToolCall(each.function_call, _id(count))]
            each = replace(each, function_call=None, tool_calls=calls)
        elif each.role == "function":
            each = replace(each, role="tool", tool_call_id=_id(count))
        found.append(each)
    return found


def _id(number: int) -> str:
    """Nine letters and digits, as some templates demand."""
    return f"call{number:05}"
