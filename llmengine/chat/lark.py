"""Grammars in the Lark dialect of llguidance, put together rule by rule.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmengine.grammar.lark import quoted
from llmengine.grammar.schema import prepared

TEXT = r"/(.|\n)*/"
SPACE = r"/[ \n]{0,16}/"

# The tokens of a text that are control tokens of the vocabulary, or nothing.
Controls = Callable[[str], tuple[int, ...]]


class Lark:
    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._rules: list[str] = []

    def text(self, text: str) -> str:
        """An expression for `text` exactly, be it a control token or not."""
        if not text:
            return ""
        if tokens := self._controls(text.strip()):
            before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
            named = " ".join(f"<[{each}]>" for each in tokens)
            return " ".join(filter(None, [self.text(before), named, self.text(after)]))
        return quoted(text)

    def text_until(self, end: str, text: str = TEXT) -> str:
        """An expression for any text, or a terminal's, up to the first `end`, and for that."""
        if self._controls(end):
            return f"{text} {self.text(end)}"
        return self.rule(text, f"[suffix={quoted(end)}]")

    def text_without(self, marks: Iterable[str]) -> str:
        """An expression for any text without those marks."""
        plain = [each for each in marks if not self._controls(each)]
        if not plain:
            return TEXT
        return self.terminal(rf"{TEXT} & ~/(.|\n)*({'|'.join(map(pattern, plain))})(.|\n)*/")

    def passing(self, marks: Iterable[str]) -> str:
        """An expression for any text before and between those marks that are control tokens."""
        found = [self.text(each) for each in marks if self._controls(each)]
        return f"({TEXT} {choice(found)})*" if found else ""

    def json(self, schema: Mapping[str, Any]) -> str:
        """An expression for JSON text of `schema`; raises InvalidRequest where none can be."""
        return self.rule(f"%json {json.dumps(prepared(schema, 'tools'))}")

    def terminal(self, body: str) -> str:
        """The name of a terminal for `body`, which alone may say what a text is not."""
        name = f"T{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def rule(self, body: str, options: str = "") -> str:
        """The name of a rule for `body`."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}{options}: {body}")
        return name

    def source(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._rules, ""])


def pattern(text: str) -> str:
    """A regular expression for `text`, to stand between slashes."""
    return re.escape(text).replace("/", r"\/")


def sequence(*parts: str) -> str:
    return " ".join(filter(None, parts))


def choice(parts: Iterable[str]) -> str:
    found = list(parts)
    return f"({' | '.join(found)})" if len(found) > 1 else "".join(found)
