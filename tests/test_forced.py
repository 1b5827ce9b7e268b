"""Calls that are forced: whatever a model writes under the grammar, its arguments fit."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from answers import parsed, pieces, plain
from grammars import END, accepts, begins, matcher

from llmengine.chat.calls.messages import Headed
from llmengine.chat.calls.style import Call
from llmengine.chat.formats import FORMATS, GENERIC, Format
from llmengine.chat.lark import Lark
from llmengine.chat.output import OutputParser
from llmengine.chat.tools import Tool
from llmengine.errors import InvalidRequest
from llmengine.sampling import Constraint

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["metric", "imperial"]},
        "code": {"type": "string", "pattern": "^[a-z]{2}$"},
        "places": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/place"}},
        "deep": {"type": ["object", "null"], "properties": {"x": {"type": "boolean"}},
                 "additionalProperties": False},
    },
    "required": ["city", "days", "code"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"name": {"type": "string"}},
                        "required": ["name"], "additionalProperties": False}},
}  # fmt: skip
OPTIONAL = {
    "type": "object",
    "properties": {"zone": {"type": "string"}, "summer": {"type": "boolean"}},
    "additionalProperties": False,
}
TOOLS = (Tool("get_weather", SCHEMA), Tool("get_time", OPTIONAL))
SCHEMAS = {each.name: each.parameters for each in TOOLS}
ALL = [GENERIC, *FORMATS]
each_format = pytest.mark.parametrize("format", ALL, ids=lambda each: each.name)


def constraint(format: Format, *, several: bool = False, tools: Any = TOOLS) -> Constraint:
    lark = Lark(lambda text: ())
    start = format.style.grammar(lark, tools, several=several)
    return Constraint("lark", lark.source(start))


def walk(format: Format, constraint: Constraint, random: Random) -> str:
    """A text under the grammar by somebody who means nothing, but would like to end."""
    state = matcher(constraint)
    text = bytearray()
    while not state.is_stopped():
        bits = np.frombuffer(state.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: END + 1]).tolist()
        ends = [each for each in allowed if each == END or chr(each) in '"}]<\n']
        tokens = [random.choice(ends if ends and random.random() < 0.3 else allowed)]
        if random.random() < 0.1:
            tokens = list(random.choice(format.style.marks or ("\n",)).encode())
        taken = tokens[: state.try_consume_tokens(tokens)]
        text.extend(each for each in taken if each != END)
        assert len(text) < 20_000
    return text.decode()


@each_format
@pytest.mark.parametrize("several", [False, True])
def test_whatever_is_written_fits(format: Format, several: bool) -> None:
    random = Random(f"{format.name}{several}")
    for _ in range(6):
        text = walk(format, constraint(format, several=several), random)
        found = parsed(OutputParser(format=format, tools=TOOLS), [text])
        assert found.calls, text
        assert found.content == "", (text, found)
        assert several or len(found.calls) == 1
        for call in found.calls:
            jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
        cut = parsed(OutputParser(format=format, tools=TOOLS), pieces(text, 3))
        assert plain(cut) == plain(found)


@pytest.mark.parametrize(
    "format", [each for each in ALL if each.name != "gemma4"], ids=lambda each: each.name
)
def test_a_call_as_the_format_writes_it_is_allowed(format: Format) -> None:
    """But for Gemma's own notation, instead of which JSON is forced."""
    arguments = {"zone": "Köln", "summer": True}
    written = format.style.write([Call("get_time", arguments, "abcdefghi")]).lstrip(">")
    end = format.messages.ends[0] if isinstance(format.messages, Headed) else ""
    assert accepts(constraint(format), written.removesuffix(end))


def test_only_the_forced_tool_is_allowed() -> None:
    forced = constraint(GENERIC, tools=TOOLS[1:])
    assert accepts(forced, '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>')
    assert not begins(forced, '<tool_call>\n{"name": "get_w')
    assert not begins(forced, "Well")


TAGGED = next(each for each in FORMATS if each.name == "qwen3-coder")


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, "anyOf"),
        ({"type": "object", "minProperties": 1}, "minProperties"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "required"),
    ],
)
def test_a_schema_that_cannot_be_held_is_refused_by_its_keyword(
    schema: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named) as caught:
        constraint(TAGGED, tools=(Tool("f", schema),))
    assert caught.value.param == "tools"


def test_of_one_empty_choice_nothing_else_is_written() -> None:
    properties = {"a": {"enum": [""]}, "b": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["a"]}
    held = constraint(TAGGED, tools=(Tool("f", schema),))
    head = "<tool_call>\n<function=f>\n<parameter=a>\n"
    assert accepts(held, f"{head}\n</parameter>\n</function>\n</tool_call>")
    assert not begins(held, f"{head}x")


def test_control_tokens_are_named_by_their_numbers() -> None:
    lark = Lark(lambda text: (7,) if text == "<tool_call>" else ())
    source = lark.source(GENERIC.style.grammar(lark, TOOLS[1:], several=False))
    assert '<[7]> "\\n"' in source
    assert "<tool_call>" not in source
