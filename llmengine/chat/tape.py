"""Text that comes in pieces, read by generators that pause where more of it is needed.

A reader is a generator: it yields what it found out, or None to be resumed with more text, and
may return a value. What it reads depends on the text alone, never on how that was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import TypeVar

E = TypeVar("E")  # what a reader reports
T = TypeVar("T")
Reading = Generator["E | None", None, T]
Pausing = Generator[None, None, T]

SPACE = " \t\r\n"
_STRUCTURE = re.compile(r'["\\{}\[\]]')
_STRING = re.compile(r'["\\]')
_BRACKETS = re.compile(r"[\"'()\[\]{}]")
_QUOTED = re.compile(r"[\"'\\]")
_SCALAR = re.compile(r"[,\]}\s]")
# A character beyond the basic plane is two escapes: they go out together.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
_HALF_ESCAPE = re.compile(
    r"\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z"
)


class Malformed(Exception):
    """The text is not what the reader expects."""


class Cut(Exception):
    """The text ended within what the reader expects."""


class Tape:
    def __init__(self) -> None:
        self.text = ""
        self.at = 0  # everything before is read
        self.kept = 0  # everything before is forgotten
        self.ended = False

    def add(self, text: str) -> None:
        self.text = self.text[self.kept :] + text
        self.at -= self.kept
        self.kept = 0

    def keep(self) -> None:
        """What is read from here on can be had back with `read`."""
        self.kept = self.at

    @property
    def read(self) -> str:
        return self.text[self.kept : self.at]

    @property
    def rest(self) -> str:
        return self.text[self.at :]

    def more(self) -> Pausing[None]:
        if self.ended:
            raise Cut
        yield None

    def peek(self) -> Pausing[str]:
        """The next character; nothing at the end."""
        while self.at == len(self.text) and not self.ended:
            yield None
        return self.text[self.at : self.at + 1]

    def skip_space(self) -> Pausing[None]:
        while (yield from self.peek()) in SPACE and self.at < len(self.text):
            self.at += 1

    def starts(self, literal: str) -> Pausing[bool]:
        """Whether the literal comes next."""
        while not self.text.startswith(literal, self.at):
            if self.ended or not literal.startswith(self.rest):
                return False
            yield None
        return True

    def take(self, literal: str) -> Pausing[bool]:
        """Whether the literal comes next, and then it is read."""
        found = yield from self.starts(literal)
        if found:
            self.at += len(literal)
        return found

    def close(self, literal: str) -> Pausing[bool]:
        """Like `take`, where the end of the text may cut the literal off."""
        found = yield from self.take(literal)
        if not found and self.ended and self.rest and literal.startswith(self.rest):
            self.at = len(self.text)
            return True
        return found

    def expect(self, literal: str) -> Pausing[None]:
        """Read the literal, whatever white space it and the text have around it."""
        yield from self.skip_space()
        literal = literal.strip()
        if not (yield from self.take(literal)):
            if self.ended and literal.startswith(self.rest):
                raise Cut
            raise Malformed

    def until(self, *marks: str) -> Pausing[tuple[str, str]]:
        """Read up to the first of `marks`, and over it: the text before, and the mark."""
        before = ""
        while True:
            at, mark = self._find(marks)
            before += self.text[self.at : at]
            self.at = at + len(mark)
            if mark:
                return before, mark
            yield from self.more()

    def flow(self, marks: tuple[str, ...], report: Callable[[str], E]) -> Reading[E, str]:
        """Report the text before the first of `marks` as it comes; the mark, "" at the end.

        The mark is read, and kept.
        """
        while True:
            at, mark = self._find(marks)
            piece = self.text[self.at : at]
            self.at, self.kept = at + len(mark), at
            if piece:
                yield report(piece)
            if mark or (self.ended and self.at == len(self.text)):
                return mark
            yield None

    def _find(self, marks: tuple[str, ...]) -> tuple[int, str]:
        """Where the first mark begins, and which; else "" and the place before which none does."""
        best, found = len(self.text), ""
        for mark in marks:
            at = self.text.find(mark, self.at)
            if at >= 0 and (at, -len(mark)) < (best, -len(found)):
                best, found = at, mark
        if self.ended:
            return best, found
        half = min((self._half(mark) for mark in marks), default=len(self.text))
        return (half, "") if half <= best else (best, found)

    def _half(self, mark: str) -> int:
        """Where an unfinished `mark` begins at the end of the text."""
        size = len(self.text)
        first = max(size - len(mark) + 1, self.at)
        return next((at for at in range(first, size) if mark.startswith(self.text[at:])), size)

    def bracketed(self) -> Pausing[str]:
        """A list in Python's notation, whole, whatever its strings hold."""
        if not (yield from self.starts("[")):
            raise Malformed
        depth, quote, text = 0, "", ""
        while True:
            found = (_QUOTED if quote else _BRACKETS).search(self.text, self.at)
            end = found.end() if found else len(self.text)
            text += self.text[self.at : end]
            self.at = end
            mark = found[0] if found else ""
            if mark == "\\":  # the next character means itself
                while not self.rest:
                    yield from self.more()
                text += self.rest[0]
                self.at += 1
            elif mark and mark in "\"'" and quote in ("", mark):
                quote = "" if quote else mark
            elif mark and not quote:
                depth += 1 if mark in "([{" else -1
                if depth <= 0:
                    return text
            if not found:
                yield from self.more()

    def value(self) -> Pausing[str]:
        """One JSON value, whole, in the model's own words."""
        pieces = []
        for piece in self.json(str):
            if piece is None:
                yield None
            else:
                pieces.append(piece)
        return "".join(pieces)

    def string(self) -> Pausing[str]:
        """One JSON string, decoded."""
        if (yield from self.peek()) != '"':
            raise Malformed
        try:
            return str(json.loads((yield from self.value()), strict=False))
        except ValueError as error:
            raise Malformed from error

    def json(self, report: Callable[[str], E]) -> Reading[E, None]:
        """Report one JSON value as it comes, in the model's own words."""
        first = yield from self.peek()
        if not first:
            raise Cut
        if first in '{["':
            yield from self._nested(report)
        elif first in ",]}:" or first in SPACE:
            raise Malformed
        else:
            yield from self._scalar(report)

    def _nested(self, report: Callable[[str], E]) -> Reading[E, None]:
        depth, inside, scanned = 0, False, self.at
        while True:
            found = (_STRING if inside else _STRUCTURE).search(self.text, scanned)
            if found is None or (found[0] == "\\" and self._half_escape(found.start())):
                place = found.start() if found else len(self.text)
                piece, self.at = self.text[self.at : place], place
                if piece:
                    yield report(piece)
                yield from self.more()
                scanned = self.at
                continue
            scanned = found.end()
            if found[0] == "\\":
                escape = _ESCAPE.match(self.text, found.start())
                scanned = escape.end() if escape else scanned
            elif found[0] == '"':
                inside = not inside
            else:
                depth += 1 if found[0] in "{[" else -1
            if depth == 0 and not inside:
                piece, self.at = self.text[self.at : scanned], scanned
                yield report(piece)
                return

    def _half_escape(self, at: int) -> bool:
        return _HALF_ESCAPE.match(self.text, at) is not None

    def _scalar(self, report: Callable[[str], E]) -> Reading[E, None]:
        while (found := _SCALAR.search(self.text, self.at)) is None and not self.ended:
            yield None
        end = found.start() if found else len(self.text)
        piece, self.at = self.text[self.at : end], end
        yield report(piece)
