"""GBNF in the words of llguidance's Lark.

GBNF goes character by character. Where Lark has terminals, its lexer takes as much as it can and
never goes back, so `[a-z]+ "x"` would not end. Hence a grammar without recursion becomes one
terminal, a plain expression, and any other becomes rules over terminals of one character.
"""

from __future__ import annotations

import json

from llmengine.errors import InvalidRequest
from llmengine.grammar import gbnf
from llmengine.grammar.gbnf import Characters, Choice, Literal, Name, Node, Repeat, Token

MAX_NESTING = 6  # groups in groups of a line; deeper ones become rules of their own


def from_gbnf(text: str, param: str) -> str:
    """The same language as Lark; raises InvalidRequest, with `param`, for what is no GBNF."""
    rules = gbnf.parse(text, param)
    _check_names(rules, param)
    return _Writer(rules, terminal=_is_regular(rules)).text()


def quoted(text: str) -> str:
    """The text as a literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class _Writer:
    def __init__(self, rules: dict[str, Node], *, terminal: bool) -> None:
        self._terminal = terminal
        self._names = {name: self._name(at) for at, name in enumerate(rules)}
        self._rules = rules
        self._lines: list[str] = []

    def _name(self, number: int) -> str:
        return f"R{number}" if self._terminal else f"r{number}"

    def text(self) -> str:
        lines = [f"{self._names[name]}: {self._node(node)}" for name, node in self._rules.items()]
        return "\n".join([f"start: {self._names['root']}", *lines, *self._lines]) + "\n"

    def _node(self, node: Node, depth: int = 0) -> str:
        """The node as a part of a line, in parentheses where it needs some."""
        if isinstance(node, Literal):
            return self._literal(node.text)
        if isinstance(node, Characters):
            return _characters(node)
        if isinstance(node, Token):
            return f"<[{'^' * node.negated}{node.id}]>"
        if isinstance(node, Name):
            return self._names[node.rule]
        if depth >= MAX_NESTING:
            name = self._name(len(self._rules) + len(self._lines))
            at = len(self._lines)
            self._lines.append("")
            self._lines[at] = f"{name}: {self._node(node)}"
            return name
        if isinstance(node, Repeat):
            most = "" if node.most is None else node.most
            return f"({self._node(node.item, depth + 1)}){{{node.least},{most}}}"
        if isinstance(node, Choice):
            return "(" + " | ".join(self._node(each, depth + 1) for each in node.options) + ")"
        parts = [self._node(each, depth + 1) for each in node.items]
        return f"({' '.join(parts)})" if parts else '""'

    def _literal(self, text: str) -> str:
        if self._terminal or len(text) < 2:
            return quoted(text)
        return f"({' '.join(map(quoted, text))})"


def _characters(node: Characters) -> str:
    if not node.ranges:
        return "/(?s:.)/"
    ranges = "".join(f"\\u{{{ord(a):x}}}-\\u{{{ord(b):x}}}" for a, b in node.ranges)
    return f"/[{'^' * node.negated}{ranges}]/"


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Repeat):
        return (node.item,)
    if isinstance(node, Choice):
        return node.options
    return node.items if isinstance(node, gbnf.Sequence) else ()


def _leaves(node: Node) -> list[Node]:
    """The nodes below that have none below them."""
    waiting, found = [node], []
    while waiting:
        node = waiting.pop()
        below = _children(node)
        waiting += below
        if not below:
            found.append(node)
    return found


def _check_names(rules: dict[str, Node], param: str) -> None:
    for node in rules.values():
        for leaf in _leaves(node):
            if isinstance(leaf, Name) and leaf.rule not in rules:
                raise InvalidRequest(
                    f"the grammar names a rule `{leaf.rule}` that it does not have",
                    param=param,
                    code="invalid_grammar",
                )


def _is_regular(rules: dict[str, Node]) -> bool:
    """Whether no rule leads to itself and no token is named: one expression says it all."""
    leaves = {name: _leaves(node) for name, node in rules.items()}
    if any(isinstance(leaf, Token) for found in leaves.values() for leaf in found):
        return False
    names = {
        name: {leaf.rule for leaf in found if isinstance(leaf, Name)}
        for name, found in leaves.items()
    }
    while ready := [name for name, needs in names.items() if not needs]:
        for name in ready:
            del names[name]
        for needs in names.values():
            needs.difference_update(ready)
    return not names
