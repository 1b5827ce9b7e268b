"""Calls in a notation of their own that is read whole: Python's, and Gemma's."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from llmengine.chat.calls.json_calls import JsonCalls
from llmengine.chat.calls.style import Call, Caller
from llmengine.chat.calls.values import python_value, quoted
from llmengine.chat.delta import Delta
from llmengine.chat.lark import SPACE, Lark, choice, sequence
from llmengine.chat.tape import Malformed, Reading, Tape
from llmengine.chat.tools import Tool, held_properties

_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_QUOTE = '<|"|>'
_WORDS = {"None": "null", "True": "true", "False": "false"}
_BARE_KEY = re.compile(r'([{,]\s*)([^\s"{}\[\],:]+)\s*:')


class PythonCalls:
    """`[get_weather(city="Paris", days=3)]` between marks; a list of JSON objects is read too."""

    bare = False

    def __init__(self, begin: str, end: str) -> None:
        self._begin = begin
        self._end = end
        self._json = JsonCalls(begin=begin, end=end, listed=True)

    @property
    def begins(self) -> tuple[str, ...]:
        return (self._begin,)

    @property
    def marks(self) -> tuple[str, ...]:
        return (self._begin, self._end)

    def read(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        yield from tape.skip_space()
        if (yield from tape.starts("[{")) or (yield from tape.starts("{")):
            yield from self._json.read(tape, caller, begin)
            return
        text = yield from tape.bracketed()
        for name, arguments in _parsed(text):
            yield caller.begin(name)
            yield caller.arguments(arguments)
        yield from tape.skip_space()
        yield from tape.close(self._end)

    def write(self, calls: Sequence[Call]) -> str:
        written = []
        for each in calls:
            given = ", ".join(
                f"{key}={quoted_json(value)}" for key, value in each.arguments.items()
            )
            written.append(f"{each.name}({given})")
        return f"{self._begin}[{', '.join(written)}]{self._end}"

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        return sequence(lark.text(self._begin), self._list(lark, tools, several=several))

    def rest(self, lark: Lark, tools: Sequence[Tool], begin: str) -> str:
        return sequence(SPACE, self._list(lark, tools, several=True))

    def _list(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        one = lark.rule(choice(self._called(lark, each) for each in tools))
        more = f'(", " {one})*' if several else ""
        return sequence('"["', one, more, '"]"', lark.text(self._end))

    def _called(self, lark: Lark, tool: Tool) -> str:
        if tool.open:
            one = lark.rule(sequence(r"/[A-Za-z_]\w*=/", lark.json({})))
            return sequence(lark.text(f"{tool.name}("), f'({one} (", " {one})*)?', '")"')
        arguments = sorted(held_properties(tool), key=lambda each: not each[2])
        rules = [
            (lark.rule(sequence(lark.text(f"{key}="), lark.json(schema))), required)
            for key, schema, required in arguments
        ]
        needed = ' ", " '.join(rule for rule, required in rules if required)
        optional = [rule for rule, required in rules if not required]
        if needed:
            inner = sequence(needed, *(f'(", " {each})?' for each in optional))
        else:  # each of the optional ones may be the first
            starts = [
                sequence(each, *(f'(", " {later})?' for later in optional[at + 1 :]))
                for at, each in enumerate(optional)
            ]
            inner = f"({choice(starts)})?" if starts else ""
        return sequence(lark.text(f"{tool.name}("), inner, '")"')


def quoted_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> list[tuple[str, str]]:
    """Name and JSON arguments of each call in a Python list, or of one call alone."""
    # A line break within a string is none in Python's notation.
    source = _STRING.sub(lambda each: each[0].replace("\n", "\\n"), text.strip())
    try:
        tree = ast.parse(source, mode="eval").body
        calls = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
        return [_python_call(each, source) for each in calls]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Malformed from error


def _python_call(node: ast.expr, source: str) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with keywords alone")
    found: dict[str, Any] = {}
    for each in node.keywords:
        if each.arg is None:
            raise ValueError("** is no argument")
        found[each.arg] = python_value(ast.get_source_segment(source, each.value) or "")
    return ast.unparse(node.func), quoted_json(found)


class GemmaCalls:
    """`<|tool_call>call:NAME{city:<|"|>Paris<|"|>,days:3}<tool_call|>`; JSON is read too."""

    bare = False
    begins = ("<|tool_call>",)
    marks = ("<|tool_call>", "<tool_call|>", _QUOTE)

    def read(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        yield from tape.expect("call:")
        name, _ = yield from tape.until("{")
        tape.at -= 1
        if (yield from tape.starts('{"')):
            yield caller.begin(name.strip())
            yield from tape.json(caller.arguments)
        else:
            body = _gemma_json((yield from tape.until("<tool_call|>"))[0])
            yield caller.begin(name.strip())
            yield caller.arguments(body)
            return
        yield from tape.skip_space()
        yield from tape.close("<tool_call|>")

    def write(self, calls: Sequence[Call]) -> str:
        return "".join(
            f"<|tool_call>call:{each.name}{_gemma(each.arguments)}<tool_call|>" for each in calls
        )

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        (begin,) = self.begins
        one = lark.rule(sequence(lark.text(begin), self.rest(lark, tools, begin)))
        return f"{one}+" if several else one

    def rest(self, lark: Lark, tools: Sequence[Tool], begin: str) -> str:
        calls = (
            sequence(lark.text(f"call:{each.name}"), lark.json(each.parameters)) for each in tools
        )
        return sequence(choice(calls), lark.text("<tool_call|>"))


def _gemma(value: Any) -> str:
    if isinstance(value, str):
        return f"{_QUOTE}{value}{_QUOTE}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_gemma(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_gemma, value)) + "]"
    return quoted_json(value)


def _gemma_json(text: str) -> str:
    """The text as JSON: every second part of it is a string, the others have bare keys."""
    parts = text.strip().split(_QUOTE)
    if len(parts) % 2 == 0:
        raise Malformed
    parts[1::2] = [quoted(each) for each in parts[1::2]]
    strings = iter(parts[1::2])
    # A string is one character here, so that nothing in it is taken for a key.
    plain = "\0".join(parts[::2])
    keyed = _BARE_KEY.sub(lambda each: f"{each[1]}{quoted(each[2])}:", plain)
    keyed = re.sub(r"\b(?:None|True|False)\b", lambda each: _WORDS[each[0]], keyed)
    found = re.sub("\0", lambda _: next(strings), keyed)
    try:
        if isinstance(json.loads(found, strict=False), dict):
            return found
    except (ValueError, RecursionError) as error:
        raise Malformed from error
    raise Malformed
