"""Grammars that llama.cpp would hang or crash on are refused before it sees them."""

from __future__ import annotations

import re

from llmengine.errors import InvalidRequest

MAX_DEPTH = 100  # nested groups: the parser recurses
MAX_RULES = 500  # so do rules that name rules
MAX_REPEATS = 2_000  # of {m,n}: the parser writes the rule out so many times
# Counts in counts, multiplied, around something optional: llama.cpp tries every way to leave
# parts out, and there are more of them than it can ever try.
MAX_OPTIONAL_REPEATS = 16

_TOKENS = re.compile(
    r"""(?P<rule>[A-Za-z0-9_-]+)\s*::="""
    r"""|\#[^\n]*|(?P<empty>"")"""
    r"""|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]"""
    r"""|\{\s*(?P<least>\d*)\s*(?P<comma>,?)\s*(?P<most>\d*)\s*\}"""
    r"""|(?P<name>[A-Za-z0-9_-]+)|(?P<sign>[()|?*+])""",
    re.DOTALL,
)


def check(grammar: str) -> None:
    """Raise InvalidRequest for a GBNF text that is not safe to use.

    What GBNF is: https://github.com/ggml-org/llama.cpp/tree/master/grammars
    """
    if not grammar.strip() or "\0" in grammar:
        _refuse("is empty or has a NUL character")
    if any("\ud800" <= each <= "\udfff" for each in grammar):
        _refuse("has a lone surrogate: send valid Unicode")
    rules: dict[str, list[re.Match[str]]] = {}
    body: list[re.Match[str]] = []
    for token in _TOKENS.finditer(grammar):
        if token["rule"]:
            body = rules.setdefault(token["rule"], [])
        else:
            body.append(token)
    if len(rules) > MAX_RULES:
        _refuse(f"has more than {MAX_RULES} rules")
    sizes = Sizes(rules)
    for name in rules:
        sizes.of_rule(name)


class Sizes:
    """How often the innermost part of a rule is written out, and whether parts are optional."""

    def __init__(self, rules: dict[str, list[re.Match[str]]]) -> None:
        self._rules = rules
        self._known: dict[str, tuple[int, bool]] = {}

    def of_rule(self, name: str) -> tuple[int, bool]:
        if name not in self._known:
            self._known[name] = (1, False)  # what a rule that names itself adds to itself
            self._known[name] = self._of_body(self._rules.get(name, []))
        return self._known[name]

    def _of_body(self, body: list[re.Match[str]]) -> tuple[int, bool]:
        groups = [(1, False)]  # those that are open, the body itself first
        item = (1, False)
        for token, after in zip(body, [*body[1:], None], strict=False):
            if token["sign"] == "(":
                groups.append((1, False))
                if len(groups) > MAX_DEPTH:
                    _refuse(f"nests deeper than {MAX_DEPTH}")
                continue
            if token["sign"] == ")" and len(groups) > 1:
                item = groups.pop()
            elif token["name"]:
                item = self.of_rule(token["name"])
            elif token["comma"] is not None:
                item = _repeated(item, token)
            elif token["sign"] and token["sign"] in "?*":
                item = (item[0], True)
            else:
                item = (1, bool(token["empty"]) or _is_empty_choice(token, after))
            groups[-1] = (max(groups[-1][0], item[0]), groups[-1][1] or item[1])
        return groups[0]


def _is_empty_choice(token: re.Match[str], after: re.Match[str] | None) -> bool:
    return token["sign"] == "|" and (after is None or after["sign"] in ("|", ")"))


def _repeated(item: tuple[int, bool], count: re.Match[str]) -> tuple[int, bool]:
    least = _number(count["least"] or "0")
    most = _number(count["most"] or count["least"] or "0")
    if least > most and (count["most"] or not count["comma"]):
        _refuse(f"repeats {count[0]}: the first count is the larger")
    if most > MAX_REPEATS:
        _refuse(f"repeats {count[0]}: {MAX_REPEATS} times at most")
    size = item[0] * max(most, 1)
    if item[0] > 1 and item[1] and size > MAX_OPTIONAL_REPEATS:
        _refuse(f"repeats optional parts {item[0]} times in {count[0]}: use * or fewer repeats")
    return size, item[1] or least == 0


def _number(digits: str) -> int:
    """The number, as far as it matters: int() refuses thousands of digits."""
    return int(digits[-9:]) if len(digits.lstrip("0")) < 9 else MAX_REPEATS + 1


def _refuse(reason: str) -> None:
    raise InvalidRequest(f"the grammar {reason}", param="grammar")
