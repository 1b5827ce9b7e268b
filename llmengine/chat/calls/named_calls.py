"""Calls with the name before JSON arguments: `<function=NAME>{...}</function>` and the like."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from llmengine.chat.calls.form import filled
from llmengine.chat.calls.sectioned import SectionedCalls
from llmengine.chat.calls.style import Call, Caller
from llmengine.chat.delta import Delta
from llmengine.chat.lark import Lark, sequence
from llmengine.chat.tape import Malformed, Reading, Tape
from llmengine.chat.tools import Tool

_ID = "/[a-zA-Z0-9]{9}/"
_NAME_IN_ID = re.compile(r"(?:functions\.)?([\w.\-]+?)(?::\d+)?")


class NamedCalls(SectionedCalls):
    """The slots of the form are {name}, {id} and {arguments}, the arguments last.

    Without {name} the id holds it, as in `functions.NAME:0`. `id_mark` may follow the name, and
    then the id follows it.
    """

    def __init__(
        self,
        call: str,
        *,
        section: tuple[str, str] = ("", ""),
        between: str = "",
        id_mark: str = "",
    ) -> None:
        super().__init__(call, section, between)
        self._id_mark = id_mark
        self._named = "{name}" in self.form.slots

    @property
    def marks(self) -> tuple[str, ...]:
        return (*super().marks, *filter(None, [self._id_mark]))

    def read_call(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        found = {"{name}": "", "{id}": ""}
        for slot in self.form.slots[:-1]:
            found[slot] = yield from self.form.read(tape, slot)
        name, call_id = found["{name}"], found["{id}"]
        if self._id_mark:
            name, _, call_id = name.partition(self._id_mark)
        yield from tape.skip_space()
        if not (yield from tape.starts("{")):
            raise Malformed
        yield caller.begin(name if self._named else _name_in(call_id), call_id)
        yield from tape.json(caller.arguments)

    def write_call(self, index: int, call: Call) -> str:
        return self.form.fill(
            name=call.name,
            id=call.id if self._named else f"functions.{call.name}:{index}",
            arguments=json.dumps(call.arguments, ensure_ascii=False),
        )

    def call_grammar(self, lark: Lark, tool: Tool, parts: Sequence[str]) -> str:
        own = sequence(lark.text(f"functions.{tool.name}:"), "/[0-9]{1,3}/")
        given = f"({lark.text(self._id_mark)} {_ID})?" if self._id_mark else ""
        slots = {
            "{name}": sequence(lark.text(tool.name), given),
            "{id}": _ID if self._named else own,
            "{arguments}": lark.json(tool.parameters),
        }
        return filled(lark, parts, slots)


def _name_in(call_id: str) -> str:
    found = _NAME_IN_ID.fullmatch(call_id)
    if not found:
        raise Malformed
    return found[1]
