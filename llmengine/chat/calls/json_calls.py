"""Calls as JSON objects, `{"name": ..., "arguments": {...}}`, between marks or bare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from llmengine.chat.calls.style import Call, Caller
from llmengine.chat.delta import Delta
from llmengine.chat.lark import SPACE, TEXT, Lark, choice, pattern, sequence
from llmengine.chat.tape import Cut, Malformed, Reading, Tape
from llmengine.chat.tools import Tool

_NAMES = frozenset({"name", "tool_name", "function"})
_ARGUMENTS = frozenset({"arguments", "parameters"})


class JsonCalls(Struct, frozen=True, kw_only=True):
    """Each object between marks of its own, or all in one list.

    Whatever of this a format writes, all of it is read: one object or a list, its members in any
    order, in a fenced block or not, with the end mark or without.
    """

    begin: str = ""
    end: str = ""
    more: tuple[str, ...] = ()  # other marks that begin a call
    name: str = "name"
    arguments: str = "arguments"
    numbered: str = ""  # the member that counts the calls, if one is written
    listed: bool = False  # whether calls are written as one list
    keyed: bool = False  # whether a call is written {NAME: arguments}
    bare: bool = False
    between: str = "\n"

    @property
    def begins(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.begin.strip(), *self.more)))

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.begin.strip(), self.end.strip(), *self.more)))

    def read(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        before = caller.count
        end = self.end.strip()
        while True:
            yield from tape.skip_space()
            if end and (yield from tape.close(end)):
                return
            if (yield from tape.take("```json")) or (yield from tape.take("```")):
                continue
            following = yield from tape.peek()
            if following == "[":
                yield from self._list(tape, caller, begin)
            elif following == "{":
                yield from self._object(tape, caller, begin)
            elif following and following in ",;" and caller.count > before:
                tape.at += 1
            elif caller.count > before:
                return
            else:
                raise Malformed if following else Cut

    def _list(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        yield from tape.expect("[")
        while True:
            yield from tape.skip_space()
            if (yield from tape.take("]")):
                return
            if not (yield from tape.take(",")):
                yield from self._object(tape, caller, begin)

    def _object(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        name, held, begun = "", "", False
        yield from tape.expect("{")
        while True:
            yield from tape.skip_space()
            if (yield from tape.take("}")):
                break
            if (yield from tape.take(",")):
                continue
            key = yield from tape.string()
            yield from tape.expect(":")
            yield from tape.skip_space()
            if self.keyed or (name and key in _ARGUMENTS and not begun):
                yield caller.begin(self._known(key if self.keyed else name, caller, begin))
                begun = True
                yield from _arguments(tape, caller)
            elif key in _NAMES:
                name = self._known((yield from tape.string()), caller, begin)
            elif key in _ARGUMENTS:
                held = yield from tape.value()
            else:
                yield from tape.value()
        if not begun:
            if not name:
                raise Malformed
            yield caller.begin(name)
            yield caller.arguments(_object_text(held or "{}"))

    def _known(self, name: str, caller: Caller, begin: str) -> str:
        """`name`; without a mark only a tool's name makes a JSON object a call."""
        if not begin and name not in caller.tools:
            raise Malformed
        return name

    def write(self, calls: Sequence[Call]) -> str:
        written = [self._written(index, each) for index, each in enumerate(calls)]
        if self.listed:
            return f"{self.begin}[{', '.join(written)}]{self.end}"
        return self.between.join(f"{self.begin}{each}{self.end}" for each in written)

    def _written(self, index: int, call: Call) -> str:
        found: dict[str, Any] = {self.numbered: str(index)} if self.numbered else {}
        if self.keyed:
            found[call.name] = call.arguments
        else:
            found |= {self.name: call.name, self.arguments: call.arguments}
        return json.dumps(found, ensure_ascii=False)

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        begin, end = lark.text(self.begin), lark.text(self.end)
        if self.listed:
            return sequence(begin, self._list_grammar(lark, tools, several=several), end)
        whole = lark.rule(sequence(begin, self._one(lark, tools), end))
        return sequence(whole, f"({sequence(lark.text(self.between), whole)})*" if several else "")

    def rest(self, lark: Lark, tools: Sequence[Tool], begin: str) -> str:
        if self.listed:
            calls = self._list_grammar(lark, tools, several=True)
        else:
            one = lark.rule(self._one(lark, tools))
            calls = f'{one} ("\\n" {one})*'
        return sequence(SPACE, calls, lark.text(self.end))

    def unmarked(self, lark: Lark, tools: Sequence[Tool]) -> tuple[str, str]:
        """An expression for calls without a mark, and a terminal for any text that is none."""
        names = "|".join(pattern(each.name) for each in tools)
        heads = [
            sequence(
                lark.terminal(_head(pattern(each.name), self.arguments)),
                lark.json(each.parameters),
                r"/\s*\}/",
            )
            for each in tools
        ]
        one = lark.rule(choice(heads))
        called = rf'/\s*\{{(.|\n)*"({"|".join(sorted(_NAMES))})"\s*:\s*"({names})"(.|\n)*/'
        return rf"{one} (/\s*[,;\n]/ {one})*", lark.terminal(f"{TEXT} & ~{called}")

    def _list_grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        one = lark.rule(self._one(lark, tools))
        more = f'("," {SPACE} {one})*' if several else ""
        return sequence('"["', SPACE, one, more, SPACE, '"]"')

    def _one(self, lark: Lark, tools: Sequence[Tool]) -> str:
        return choice(self._called(lark, each) for each in tools)

    def _called(self, lark: Lark, tool: Tool) -> str:
        name = json.dumps(tool.name)
        number = sequence(lark.text(f'"{self.numbered}": "'), "/[0-9]/", lark.text('", '))
        head = f"{name}: " if self.keyed else f'"{self.name}": {name}, "{self.arguments}": '
        return sequence(
            '"{"',
            number if self.numbered else "",
            lark.text(head),
            lark.json(tool.parameters),
            '"}"',
        )


def _head(name: str, arguments: str) -> str:
    """The object up to the arguments, with any white space."""
    kind = r'("type"\s*:\s*"function"\s*,\s*)?'
    return rf'/\s*\{{\s*{kind}"name"\s*:\s*"{name}"\s*,\s*"{arguments}"\s*:\s*/'


def _arguments(tape: Tape, caller: Caller) -> Reading[Delta, None]:
    """Report the arguments: an object as it comes, anything else when it is whole."""
    if (yield from tape.starts("{")):
        yield from tape.json(caller.arguments)
    else:
        yield caller.arguments(_object_text((yield from tape.value())))


def _object_text(text: str) -> str:
    """The text of an object, where the model wrote it as a string or wrote null."""
    if not text.startswith('"'):
        return "{}" if text == "null" else text
    try:
        return str(json.loads(text, strict=False)) or "{}"
    except ValueError:
        return text
