"""Answers taken apart, for tests of formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmengine.chat.delta import Delta, joined
from llmengine.chat.formats import Format
from llmengine.chat.output import OutputParser
from llmengine.chat.tools import Tool, of_openai

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "options": {"type": "object"},
    },
    "required": ["city"],
}
TIME = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
GIVEN = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Forecast", "parameters": WEATHER},
    },
    {"type": "function", "function": {"name": "get_time", "parameters": TIME}},
]
TOOLS: tuple[Tool, ...] = of_openai(GIVEN)


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def parsed(parser: OutputParser, text: Sequence[str]) -> Delta:
    """The whole of what comes in pieces."""
    return joined([*(parser.feed(each) for each in text), parser.finish()])


def plain(delta: Delta) -> tuple[str, str, list[tuple[str, Any]]]:
    """Content, reasoning and calls, without the ids, which differ."""
    return delta.content, delta.reasoning, [(c.name, c.arguments) for c in delta.calls]


def calls(delta: Delta) -> list[tuple[str, Any]]:
    return [(each.name, json.loads(each.arguments)) for each in delta.calls]


def read(format: Format, text: str, **more: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """`text` taken apart, which has to come out the same however it is cut."""
    found = [
        plain(parsed(OutputParser(format=format, tools=TOOLS, **more), pieces(text, size)))
        for size in (len(text) or 1, 1, 2, 3, 7)
    ]
    assert found == [found[0]] * len(found)
    return found[0]
