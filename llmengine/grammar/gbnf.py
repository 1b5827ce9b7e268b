"""Grammars that llama.cpp's parser would hang or crash on are refused before it sees them."""

from __future__ import annotations

import re

from llmengine.errors import InvalidRequest

MAX_DEPTH = 100  # nested groups: the parser recurses
MAX_REPEATS = 2_000  # of {m,n}: the parser writes the rule out so many times

# Literals, character classes and comments are skipped; groups and counts are looked at.
_PARTS = re.compile(
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\#[^\n]*|(?P<open>\()|(?P<close>\))'
    r"|\{\s*(?P<least>\d*)\s*(?P<comma>,?)\s*(?P<most>\d*)\s*\}",
    re.DOTALL,
)


def check(grammar: str) -> None:
    """Raise InvalidRequest for a GBNF text that is not safe to parse.

    What GBNF is: https://github.com/ggml-org/llama.cpp/tree/master/grammars
    """
    if not grammar.strip() or "\0" in grammar:
        raise InvalidRequest("the grammar is empty or has a NUL character", param="grammar")
    if not grammar.isprintable() and any("\ud800" <= each <= "\udfff" for each in grammar):
        raise InvalidRequest(
            "the grammar has a lone surrogate: send valid Unicode", param="grammar"
        )
    depth = 0
    for part in _PARTS.finditer(grammar):
        depth += bool(part["open"]) - bool(part["close"])
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the grammar nests deeper than {MAX_DEPTH}", param="grammar")
        if part["comma"] is not None:
            _check_repeats(part)


def _check_repeats(part: re.Match[str]) -> None:
    least = _count(part["least"] or "0")
    most = _count(part["most"] or part["least"] or "0")
    if least > most:
        raise InvalidRequest(
            f"the grammar repeats {part[0]}: the first count is the larger", param="grammar"
        )
    if most > MAX_REPEATS:
        raise InvalidRequest(
            f"the grammar repeats {part[0]}: {MAX_REPEATS} times at most", param="grammar"
        )


def _count(digits: str) -> int:
    """The number, as far as it matters: int() refuses thousands of digits."""
    return int(digits[-9:]) if len(digits.lstrip("0")) < 9 else MAX_REPEATS + 1
