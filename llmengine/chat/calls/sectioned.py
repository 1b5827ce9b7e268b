"""Calls of one form each, behind one another or in a section of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from llmengine.chat.calls.form import Form, expression
from llmengine.chat.calls.style import Call, Caller
from llmengine.chat.delta import Delta
from llmengine.chat.lark import SPACE, Lark, choice, sequence
from llmengine.chat.tape import Cut, Malformed, Reading, Tape
from llmengine.chat.tools import Tool


class SectionedCalls(ABC):
    """A section's mark may be missing: the form of a call begins one just as well."""

    bare = False

    def __init__(self, call: str, section: tuple[str, str], between: str) -> None:
        self.form = Form(call)
        self._section = section
        self._between = between

    @property
    def begins(self) -> tuple[str, ...]:
        return tuple(filter(None, (self._section[0].strip(), *self.form.opening)))

    @property
    def marks(self) -> tuple[str, ...]:
        section = (each.strip() for each in self._section)
        return tuple(filter(None, (*section, *self.form.literals)))

    def read(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        before, end = caller.count, self._section[1].strip()
        opening = self.form.opening
        if begin in opening:
            yield from self._open(tape, caller, opening[opening.index(begin) + 1 :])
        while self._section[0]:
            yield from tape.skip_space()
            if end and (yield from tape.close(end)):
                return
            if not (yield from tape.take(opening[0])):
                if caller.count == before:
                    raise Cut if tape.ended and opening[0].startswith(tape.rest) else Malformed
                return
            yield from self._open(tape, caller, opening[1:])

    def _open(self, tape: Tape, caller: Caller, opening: Sequence[str]) -> Reading[Delta, None]:
        for each in opening:
            yield from tape.expect(each)
        yield from self.read_call(tape, caller)
        yield from self.form.close(tape)

    def write(self, calls: Sequence[Call]) -> str:
        written = self._between.join(self.write_call(*each) for each in enumerate(calls))
        return f"{self._section[0]}{written}{self._section[1]}"

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        begin, end = (lark.text(each) for each in self._section)
        return sequence(begin, self._calls(lark, tools, several=several), end)

    def rest(self, lark: Lark, tools: Sequence[Tool], begin: str) -> str:
        parts = self.form.parts
        if begin in self.form.opening:
            parts = parts[parts.index(begin) + 1 :]
            return choice(self.call_grammar(lark, each, parts) for each in tools)
        calls = self._calls(lark, tools, several=True)
        return sequence(SPACE, calls, f"({lark.text(self._section[1])})?")  # not all models end it

    def _calls(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        one = lark.rule(choice(self.call_grammar(lark, each, self.form.parts) for each in tools))
        more = f"({sequence(expression(lark, self._between), one)})*" if several else ""
        return sequence(one, more)

    @abstractmethod
    def read_call(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        """Read a call between the opening and the closing literals of its form."""

    @abstractmethod
    def write_call(self, index: int, call: Call) -> str: ...

    @abstractmethod
    def call_grammar(self, lark: Lark, tool: Tool, parts: Sequence[str]) -> str:
        """An expression for these parts of the form of a call."""
