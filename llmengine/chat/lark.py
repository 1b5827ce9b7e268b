"""Grammars in the Lark dialect of llguidance, put together rule by rule.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmengine.grammar.lark import quoted
from llmengine.grammar.schema import prepared

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

    def text_until(self, end: str) -> str:
        """An expression for any text up to the first `end`, and for that."""
        if self._controls(end):
            return f"/(.|\\n)*/ {self.text(end)}"
        return self.rule("/(.|\\n)*/", f"[suffix={quoted(end)}]")

    def json(self, schema: Mapping[str, Any]) -> str:
        """An expression for JSON text of `schema`; raises InvalidRequest where none can be."""
        return self.rule(f"%json {json.dumps(prepared(schema, 'tools'))}")

    def rule(self, body: str, options: str = "") -> str:
        """The name of a rule for `body`."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}{options}: {body}")
        return name

    def source(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._rules, ""])


def sequence(*parts: str) -> str:
    return " ".join(filter(None, parts))


def choice(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else f"({' | '.join(found)})"
