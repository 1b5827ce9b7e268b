"""Calls with each argument between tags: `<parameter=KEY>VALUE</parameter>` and the like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmengine.chat.calls.form import Form, filled
from llmengine.chat.calls.sectioned import SectionedCalls
from llmengine.chat.calls.style import Call, Caller
from llmengine.chat.calls.values import ends_in_string, json_of, quoted
from llmengine.chat.delta import Delta
from llmengine.chat.lark import Lark, choice, sequence
from llmengine.chat.tape import Cut, Reading, Tape
from llmengine.chat.tools import Tool, held_properties, writes_as_text

_TYPES = ("number", "integer", "boolean", "object", "array", "null")  # but for strings


class TaggedCalls(SectionedCalls):
    """The slots of a call are {name} and {parameters}, and {index} where it counts them from 1.

    Those of a parameter are {key}, {value} and, where the format tells it, {text} (`true` for a
    string) or {type} (the JSON type). A string stands there as it is, any other value as JSON.
    """

    def __init__(
        self, call: str, parameter: str, *, section: tuple[str, str] = ("", ""), between: str = ""
    ) -> None:
        super().__init__(call, section, between)
        self._parameter = Form(parameter)
        self._lines = self._parameter.on_line("{value}")

    @property
    def marks(self) -> tuple[str, ...]:
        return (*super().marks, *self._parameter.literals)

    def read_call(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        first = self._parameter.opening[0]
        heads = self.form.after("{name}")
        if heads:
            name = yield from self.form.read(tape, "{name}")
        else:  # the first parameter ends the name, or the end of a call without any
            name, mark = yield from tape.until(first, *self.form.after("{parameters}")[:1])
            tape.at -= len(mark)
        if "{index}" in self.form.slots:
            yield from self.form.read(tape, "{index}")
        tool = caller.tool(name.strip())
        yield caller.begin(tool.name)
        separator = "{"
        while True:
            yield from tape.skip_space()
            if not (yield from tape.take(first)):
                break
            yield from self._argument(tape, caller, tool, separator)
            separator = ", "
        yield caller.arguments("{}" if separator == "{" else "}")

    def _argument(
        self, tape: Tape, caller: Caller, tool: Tool, separator: str
    ) -> Reading[Delta, None]:
        form = self._parameter
        found = {}
        for slot in form.slots[:-1]:
            found[slot] = yield from form.read(tape, slot)
        key = found["{key}"]
        is_text = tool.is_text(key)
        if "{text}" in found:
            is_text = found["{text}"] == "true"
        if "{type}" in found:
            is_text = found["{type}"] == "string"
        if self._lines:
            yield from tape.take("\n")
        yield caller.arguments(f"{separator}{quoted(key)}: ")
        if is_text:
            yield from self._text(tape, caller)
        else:
            value, mark = yield from tape.until(form.after("{value}")[0])
            while ends_in_string(value):  # then the mark is one of its characters
                more, _ = yield from tape.until(mark)
                value += mark + more
            yield caller.arguments(json_of(value.strip(), tool.schema_of(key)))

    def _text(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        close = self._parameter.after("{value}")[0]
        closes = (f"\n{close}", close) if self._lines else (close,)
        if (yield from tape.take("<![CDATA[")):
            closes = (f"]]>{close}",)
        yield caller.arguments('"')
        mark = yield from tape.flow(closes, lambda text: caller.arguments(quoted(text)[1:-1]))
        if not mark:
            raise Cut
        yield caller.arguments('"')

    def write_call(self, index: int, call: Call) -> str:
        parameters = "".join(self._written(*item) for item in call.arguments.items())
        return self.form.fill(name=call.name, index=str(index + 1), parameters=parameters)

    def _written(self, key: str, value: Any) -> str:
        is_text = isinstance(value, str)
        return self._parameter.fill(
            key=key,
            text=json.dumps(is_text),
            type="string" if is_text else "object",
            value=value if is_text else json.dumps(value, ensure_ascii=False),
        )

    def call_grammar(self, lark: Lark, tool: Tool, parts: Sequence[str]) -> str:
        """Each declared property in its order; raises InvalidRequest where that cannot do."""
        parameters = [f"{self._any_argument(lark)}*"] if tool.open else []
        for key, schema, required in held_properties(tool):
            one = self._held_argument(lark, key, schema)
            parameters.append(one if required else f"{one}?")
        slots = {
            "{name}": lark.text(tool.name),
            "{index}": "/[1-9][0-9]?/",
            "{parameters}": sequence(*parameters),
        }
        return filled(lark, parts, slots)

    def _any_argument(self, lark: Lark) -> str:
        """An argument of any name, with any text for its value."""
        types = choice(lark.text(each) for each in ("string", *_TYPES))
        slots = {"{key}": r"/[\w.\-]+/", "{text}": "/true|false/", "{type}": types}
        return self._argument_grammar(lark, slots)

    def _held_argument(self, lark: Lark, key: str, schema: dict[str, Any]) -> str:
        is_text = writes_as_text(schema)
        slots = {
            "{key}": lark.text(key),
            "{text}": lark.text(json.dumps(is_text)),
            "{type}": lark.text("string") if is_text else choice(map(lark.text, _TYPES)),
        }
        value = None if is_text else lark.json(schema)
        if is_text and "enum" in schema:
            value = choice(map(lark.text, schema["enum"]))
        return self._argument_grammar(lark, slots, value)

    def _argument_grammar(
        self, lark: Lark, slots: Mapping[str, str], value: str | None = None
    ) -> str:
        """An argument with that value, or else with any text up to the mark that ends it."""
        parts = self._parameter.parts
        before, after = parts[: parts.index("{value}")], parts[parts.index("{value}") + 1 :]
        if value is None:  # the line break before the mark is part of the text
            close = self._parameter.after("{value}")[0]
            value, after = lark.text_until(close), after[after.index(close) + 1 :]
        head, tail = (filled(lark, each, slots) for each in (before, after))
        return lark.rule(sequence(head, value, tail))
