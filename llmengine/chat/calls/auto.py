"""Answers that may call: any text, and wherever a call begins, one whose arguments fit."""

from __future__ import annotations

from collections.abc import Sequence

from llmengine.chat.calls.json_calls import JsonCalls
from llmengine.chat.calls.style import CallStyle
from llmengine.chat.lark import TEXT, Lark, choice, sequence
from llmengine.chat.tools import Tool


def answer(lark: Lark, style: CallStyle, tools: Sequence[Tool], marks: Sequence[str]) -> str:
    """An expression for such an answer, in whose text those marks may stand.

    Raises InvalidRequest for a schema that the style cannot be held to.
    """
    calls = {begin: lark.rule(style.rest(lark, tools, begin)) for begin in style.begins}
    before = lark.passing(marks)
    called = choice(sequence(before, lark.text_until(each), calls[each]) for each in calls)
    others = sequence(f"({called})*", before, TEXT)
    if not (isinstance(style, JsonCalls) and style.bare):
        return others
    unmarked, words = style.unmarked(lark, tools)
    first = choice(sequence(lark.text_until(each, words), calls[each]) for each in calls)
    return choice([unmarked, words, sequence(first, others)])
