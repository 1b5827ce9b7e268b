"""What one rendering of a template may spend: time, and the size of what it makes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Set, Sized
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateRuntimeError
from jinja2.utils import Namespace

SECONDS = 1.0  # of the rendering thread's processor time
PROBING = 3.0  # for all that is tried of a template when it is loaded: nobody waits for it twice
MAX_WEIGHT = 2**23  # of one value; a character weighs 1
MAX_TOTAL = 2**27  # of everything that one rendering makes
ITEM = 64  # what an item of a list or mapping weighs beside its content
MAX_BITS = 4096  # of an integer
# A width of four digits, or one that is an argument itself.
_WIDE_FORMAT = re.compile(r"\d{4}|\*|\{[^{}]*\{")


class LimitExceeded(TemplateRuntimeError):
    """The template takes too long or makes too much."""


class Budget:
    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._deadline = time.thread_time() + seconds
        self._left = MAX_TOTAL

    def tick(self, spent: int = 0) -> None:
        self._left -= spent
        if self._left < 0:
            raise LimitExceeded("it makes too much text")
        if time.thread_time() > self._deadline:
            raise LimitExceeded(f"it ran for more than {self._seconds:g} s")

    def made(self, value: Any) -> Any:
        """`value`, which the template has just made."""
        weight(value)
        items = len(value) if isinstance(value, Sized) else 0
        self.tick(items if isinstance(value, str) else items * ITEM)
        return value


BUDGET: ContextVar[Budget] = ContextVar("BUDGET")


def weight(value: Any) -> int:
    """What `value` weighs with all it holds, a part as often as it is held.

    Every value that a template makes passes here, so none can be built whose comparing or
    printing takes for ever.
    """
    total = 0
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, int):
            if each.bit_length() > MAX_BITS:
                raise LimitExceeded("a number grew too large")
        elif isinstance(each, (Mapping, Namespace)):
            parts = _attributes(each) if isinstance(each, Namespace) else each
            total += ITEM * len(parts)
            todo += parts.values()
        elif isinstance(each, (list, tuple, Set)):
            total += ITEM * len(each)
            todo += each
        allow(total)
    return total


def allow(weight: int) -> None:
    """Refuse to make a value of this weight."""
    if weight > MAX_WEIGHT:
        raise LimitExceeded("a value grew too large")


def _attributes(namespace: Namespace) -> Mapping[str, Any]:
    found = object.__getattribute__(namespace, "_Namespace__attrs")
    assert isinstance(found, Mapping)
    return found


def check_binary(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be too large to compute."""
    if operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _allow_bits(left.bit_length() + right.bit_length())
        elif isinstance(right, int):
            allow(weight(left) * max(right, 0))
        elif isinstance(left, int):
            allow(weight(right) * max(left, 0))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _allow_bits(left.bit_length() * abs(right))
    elif operator == "%" and isinstance(left, str):
        check_format(left, right)


def _allow_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise LimitExceeded("a number grew too large")


def check_format(pattern: str, values: Any) -> None:
    if _WIDE_FORMAT.search(pattern):
        raise LimitExceeded("a format is too wide")
    allow((pattern.count("%") + pattern.count("{")) * (weight(values) + ITEM))


def check_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    """Refuse a call of a string's method whose result would be too large."""
    if name in {"center", "ljust", "rjust", "zfill", "expandtabs"}:
        width = next((each for each in args if isinstance(each, int)), 8)
        allow(width * (text.count("\t") if name == "expandtabs" else 1))
    elif name == "replace" and len(args) >= 2:
        check_replace(text, str(args[0]), str(args[1]))
    elif name == "join" and args and isinstance(args[0], Sized):
        allow(len(args[0]) * len(text))
    elif name == "translate":
        raise LimitExceeded("translate() is not offered")
    elif name in {"split", "rsplit", "splitlines"}:
        separator = args[0] if args and isinstance(args[0], str) else ""
        marks = [separator] if separator else " \n\r\t\f\v\x1c\x1d\x1e\x85\u2028\u2029"
        allow(ITEM * sum(text.count(mark) for mark in marks))


def check_replace(text: str, old: str, new: str) -> None:
    allow(len(text) + text.count(old) * len(new))
