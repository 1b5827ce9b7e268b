"""Answers that are messages themselves, each with a header that says what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from msgspec import Struct

from llmengine.chat.calls.style import Call, Caller, CallStyle
from llmengine.chat.delta import Delta
from llmengine.chat.lark import TEXT, Lark, choice, pattern, sequence
from llmengine.chat.tape import Malformed, Reading, Tape
from llmengine.chat.tools import Tool

_CHANNEL = re.compile(r"<\|channel\|>\s*([\w.\-]+)")
_RECIPIENT = re.compile(r"\bto=([\w.\-]+)")


class Headed(Struct, frozen=True, kw_only=True):
    """`<|channel|>analysis<|message|>...<|end|><|start|>assistant to=functions.NAME...`

    Harmony, and formats that say the same with recipients alone.
    https://cookbook.openai.com/articles/openai-harmony
    """

    thinking: frozenset[str]  # channels and recipients of the reasoning
    ends: tuple[str, ...]  # what ends a message
    thought: tuple[str, str]  # what the reasoning's message begins and ends with
    call: str  # the header of a call with {name}
    calls: CallStyle | None = None  # how a call's body is written; None: as JSON arguments
    header: str = "<|message|>"
    start: str = "<|start|>assistant"

    @property
    def marks(self) -> tuple[str, ...]:
        own = (self.header, "<|start|>", "<|channel|>", "<|constrain|>", *self.ends)
        return (*own, *(self.calls.marks if self.calls else ()))

    def read(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        heads = ("<|start|>", "<|channel|>", "assistant", "to=")
        while True:
            tape.keep()
            yield from tape.skip_space()
            if not (yield from tape.peek()):
                return
            for each in heads:
                if (yield from tape.starts(each)):
                    yield from self._message(tape, caller)
                    break
            else:
                tape.at = tape.kept
                mark = yield from tape.flow((*self.ends, *heads[:2]), _content)
                if mark in heads:
                    tape.at -= len(mark)

    def _message(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        header, _ = yield from tape.until(self.header)
        channel, recipient = (_found(each, header) for each in (_CHANNEL, _RECIPIENT))
        ends = (*self.ends, "<|start|>")
        name = recipient.removeprefix("functions.")
        if self.thinking & {channel, recipient}:
            mark = yield from tape.flow(ends, _reasoning)
        elif name in caller.tools or recipient != name:
            yield from self._call(tape, caller, name)
            mark = yield from tape.flow(ends, lambda _: Delta())
        else:
            mark = yield from tape.flow(ends, _content)
        if mark == "<|start|>":
            tape.at -= len(mark)

    def _call(self, tape: Tape, caller: Caller, name: str) -> Reading[Delta, None]:
        yield from tape.skip_space()
        if self.calls is not None:
            begin = self.calls.begins[0]
            yield from tape.expect(begin)
            yield from self.calls.read(tape, caller, begin)
        elif (yield from tape.starts("{")):
            yield caller.begin(name)
            yield from tape.json(caller.arguments)
        else:
            raise Malformed

    def write(self, calls: Sequence[Call]) -> str:
        (call,) = calls[:1]
        body = (
            self.calls.write([call])
            if self.calls
            else json.dumps(call.arguments, ensure_ascii=False)
        )
        return f"{self.call.replace('{name}', call.name)}{self.header}{body}{self.ends[0]}"

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        """One call: a message is for one recipient, and then the turn is over."""
        return choice(
            sequence(
                *(lark.text(each) for each in _marked(self.call.replace("{name}", tool.name))),
                lark.text(self.header),
                self._body(lark, tool),
            )
            for tool in tools
        )

    def answer(self, lark: Lark, tools: Sequence[Tool]) -> str:
        """An expression for any messages, the arguments of which fit where one is a call."""
        heads = ("<|start|>", "<|channel|>", "<|constrain|>")
        mark, header = choice(map(lark.text, heads)), lark.text(self.header)
        blank, word, text = "/[ \\n]*/", "/[^<=]*/", lark.text_without((*heads, self.header))
        marked = f"{blank} ({mark} {word})*"
        to = f"{marked} {mark} {lark.text_until('to=', word)}"
        to = lark.rule(choice([lark.text_until("to=", blank), to]))
        end = f"(/ [^<=]*/)? ({mark} {word})* {header}"
        prefix = self.call.partition("{name}")[0].partition("to=")[2]
        names = "|".join(pattern(each.name) for each in tools)
        functions = f"({pattern(prefix)}(.|\\n)*|{names})" if prefix else f"({names})"
        other = lark.terminal(rf"/[\w.:\/\-]+/ & ~/{functions}/")
        said = lark.rule(choice([f"{marked} {header}", f"{to} {other} {end}"]))
        call = lark.rule(
            choice(
                sequence(to, lark.text(f"{prefix}{each.name}"), end, self._body(lark, each))
                for each in tools
            )
        )
        ended = [f"{said} {lark.text_until(each, text)}" for each in self.ends]
        ended += [f"{call} {lark.text(each)}" for each in self.ends]
        return f"{choice(ended)}* ({said} {text} | {call})?"

    def _body(self, lark: Lark, tool: Tool) -> str:
        if self.calls:
            return self.calls.grammar(lark, [tool], several=False)
        return lark.json(tool.parameters)


class Recipients:
    """`>>>all` and a line break before text, `>>>NAME` before the arguments of a call."""

    marks = (">>>",)
    thought = None

    def read(self, tape: Tape, caller: Caller) -> Reading[Delta, None]:
        yield from tape.take(">>>")
        while True:
            tape.keep()
            if not (yield from tape.peek()):
                return
            name, _ = yield from tape.until("\n")
            if name.strip() in caller.tools and (yield from tape.starts("{")):
                yield caller.begin(name.strip())
                yield from tape.json(caller.arguments)
                mark = yield from tape.flow((">>>",), lambda _: Delta())
            else:
                if name.strip() != "all":
                    yield _content(f"{name}\n")
                mark = yield from tape.flow((">>>",), _content)
            if not mark:
                return

    def write(self, calls: Sequence[Call]) -> str:
        return "".join(
            f">>>{each.name}\n{json.dumps(each.arguments, ensure_ascii=False)}" for each in calls
        )

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        """The prompt ends with the first `>>>`."""
        one = self._one(lark, tools)
        return sequence(one, f'(">>>" {one})*' if several else "")

    def answer(self, lark: Lark, tools: Sequence[Tool]) -> str:
        """An expression for any texts and calls whose arguments fit."""
        one, text = self._one(lark, tools), lark.text("all\n")
        ended = choice([f"{text} {lark.text_until('>>>')}", f'{one} ">>>"'])
        return f'">>>"? {ended}* ({text} {TEXT} | {one})'

    def _one(self, lark: Lark, tools: Sequence[Tool]) -> str:
        return lark.rule(
            choice(
                sequence(lark.text(f"{each.name}\n"), lark.json(each.parameters)) for each in tools
            )
        )


def _content(text: str) -> Delta:
    return Delta(content=text)


def _reasoning(text: str) -> Delta:
    return Delta(reasoning=text)


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _marked(text: str) -> list[str]:
    """`text` parted into marks like <|channel|> and what stands between them."""
    return [each for each in re.split(r"(<\|\w+\|>)", text) if each]
