"""llama.cpp's GBNF, read into a tree: https://github.com/ggml-org/llama.cpp/tree/master/grammars"""

from __future__ import annotations

import re
from typing import NoReturn

from msgspec import Struct

from llmengine.errors import InvalidRequest

MAX_RULES = 1000  # llguidance recurses through rules that name rules
MAX_DEPTH = 100  # of groups
MAX_REPEATS = 100_000

_SPACE = re.compile(r"(?:[ \t]|\#[^\r\n]*)*")
_BLANK = re.compile(r"(?:[ \t\r\n]|\#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_COUNTS = re.compile(r"\{\s*(\d+)\s*(?:(,)\s*(\d*)\s*)?\}")
_TOKEN = re.compile(r"(!?)<\[(\d+)\]>")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([trn\\\"\[\]]))")
_PLAIN = {"t": "\t", "r": "\r", "n": "\n"}


class Characters(Struct, frozen=True):
    """One character: of these ranges, or of none of them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False


class Literal(Struct, frozen=True):
    text: str


class Token(Struct, frozen=True):
    id: int
    negated: bool


class Name(Struct, frozen=True):
    rule: str


class Repeat(Struct, frozen=True):
    item: Node
    least: int
    most: int | None


class Sequence(Struct, frozen=True):
    items: tuple[Node, ...]


class Choice(Struct, frozen=True):
    options: tuple[Node, ...]


Node = Characters | Literal | Token | Name | Repeat | Sequence | Choice

ANY = Characters((), negated=True)


def parse(text: str, param: str) -> dict[str, Node]:
    """The rules by their names; raises InvalidRequest, with `param`, for what is no GBNF."""
    return _Parser(text, param).rules()


class _Parser:
    def __init__(self, text: str, param: str) -> None:
        self._text = text
        self._param = param
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip(_BLANK)
        while self._at < len(self._text):
            name = self._take(_NAME, "the name of a rule")[0]
            self._skip(_SPACE)
            self._take(re.compile("::="), "::=")
            self._skip(_BLANK)
            found[name] = self._choice(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._refuse("a line's end")
            self._skip(_BLANK)
        if "root" not in found:
            self._fail("has no rule `root`")
        if len(found) > MAX_RULES:
            self._fail(f"has more than {MAX_RULES} rules")
        return found

    def _choice(self, *, nested: bool) -> Node:
        options = [self._sequence(nested=nested)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_BLANK)
            options.append(self._sequence(nested=nested))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, *, nested: bool) -> Node:
        space = _BLANK if nested else _SPACE
        items: list[Node] = []
        while (item := self._item()) is not None:
            self._skip(space)
            while (repeated := self._repeat(item)) is not None:
                item = repeated
                self._skip(space)
            items.append(item)
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self) -> Node | None:
        """What begins here, or None at the end of a sequence."""
        sign = self._peek()
        if sign == '"':
            return self._literal()
        if sign == "[":
            return self._characters()
        if sign == "(":
            return self._group()
        if sign == ".":
            self._at += 1
            return ANY
        if sign and sign in "<!":
            found = self._take(_TOKEN, "a token's number, like <[42]>")
            return Token(int(found[2][-10:]), bool(found[1]))
        name = _NAME.match(self._text, self._at)
        if name is None:
            return None
        self._at = name.end()
        return Name(name[0])

    def _group(self) -> Node:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nests deeper than {MAX_DEPTH}")
        self._skip(_BLANK)
        found = self._choice(nested=True)
        if self._peek() != ")":
            self._refuse(")")
        self._at += 1
        self._depth -= 1
        return found

    def _literal(self) -> Node:
        self._at += 1
        text = ""
        while self._peek() != '"':
            text += self._character()
        self._at += 1
        return Literal(text)

    def _characters(self) -> Node:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges = []
        while self._peek() != "]":
            first = last = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._at += 1
                last = self._character()
            if last < first:
                self._fail(f"has the range {first}-{last}, which is empty")
            ranges.append((first, last))
        self._at += 1
        if not ranges and not negated:
            self._fail("has an empty []")
        return Characters(tuple(ranges), negated)

    def _character(self) -> str:
        if self._peek() != "\\":
            if not (found := self._peek()):
                self._refuse("the end of a literal")
            self._at += 1
            return found
        escape = self._take(_ESCAPE, "an escape that GBNF has")
        if escape[4]:
            return _PLAIN.get(escape[4], escape[4])
        code = int(escape[1] or escape[2] or escape[3], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self._fail(f"has {escape[0]}, which is no character")
        return chr(code)

    def _repeat(self, item: Node) -> Node | None:
        sign = self._peek()
        if sign and sign in "*+?":
            self._at += 1
            return Repeat(item, int(sign == "+"), 1 if sign == "?" else None)
        if sign != "{":
            return None
        counts = self._take(_COUNTS, "{m}, {m,} or {m,n}")
        least = self._number(counts[1])
        most = self._number(counts[3]) if counts[3] else None if counts[2] else least
        if most is not None and most < least:
            self._fail(f"repeats {counts[0]}: the first count is the larger")
        return Repeat(item, least, most)

    def _number(self, digits: str) -> int:
        number = int(digits) if len(digits) < 10 else MAX_REPEATS + 1
        if number > MAX_REPEATS:
            self._fail(f"repeats more than {MAX_REPEATS} times")
        return number

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, space: re.Pattern[str]) -> None:
        found = space.match(self._text, self._at)
        assert found is not None  # it may be empty
        self._at = found.end()

    def _take(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            self._refuse(expected)
        self._at = found.end()
        return found

    def _refuse(self, expected: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        near = self._text[self._at : self._at + 20].partition("\n")[0]
        self._fail(f"is not valid GBNF: expected {expected} in line {line} before {near!r}")

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidRequest(f"the grammar {reason}", param=self._param, code="invalid_grammar")
