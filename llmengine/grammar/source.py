"""Constraints as llguidance takes them: a list of grammars that may name each other.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llmengine.errors import InvalidRequest
from llmengine.grammar import lark, schema
from llmengine.sampling import Constraint

Grammar = dict[str, Any]
MAX_CHOICES = 10_000
MAX_RULES = 1000  # llguidance recurses through rules that name rules

_SCHEMA = re.compile(r"%json\s*")
_RULE = re.compile(r"[\w\]}-]\s*:")  # a rule's name, with what may stand behind it


def grammar(constraint: Constraint) -> Grammar:
    """The constraint as a grammar of llguidance's; raises InvalidRequest for what is none."""
    text, param = constraint.source, constraint.param
    if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise InvalidRequest(
            f"`{param}` has a NUL character or a lone surrogate: send valid Unicode", param=param
        )
    match constraint.kind:
        case "json_object":
            return {"json_schema": schema.prepared({"type": "object"}, param)}
        case "json_schema":
            return {"json_schema": schema.parsed(text, param)}
        case "choice":
            return {"lark_grammar": _choice(text, param)}
        case "regex":
            return {"lark_grammar": f"start: {_regex(text, param)}"}
        case "lark":
            return {"lark_grammar": _lark(text, param)}
        case "gbnf":
            return {"lark_grammar": lark.from_gbnf(text, param)}


def listing(
    answer: Grammar,
    thinking: tuple[str, str] | None = None,
    control_token: Callable[[str], int | None] = lambda text: None,
) -> str:
    """The JSON of `answer`, after a block of thinking where there may be one."""
    if thinking is None:
        return json.dumps({"grammars": [answer]})
    opens, closes = thinking
    close = control_token(closes)
    thought = (
        f"thought: /(.|\\n)*/ <[{close}]>"
        if close is not None
        else f"thought[suffix={lark.quoted(closes)}]: /(.|\\n)*/"
    )
    start = "thought SPACE @answer"
    if opens:
        opener = control_token(opens)
        tag = lark.quoted(opens) if opener is None else f"<[{opener}]>"
        start = f"@answer | {tag} {start}"
    before = f"start: {start}\n{thought}\nSPACE: /[ \\n]{{0,4}}/\n"
    return json.dumps({"grammars": [{"lark_grammar": before}, {"name": "answer", **answer}]})


def _lark(text: str, param: str) -> str:
    """The grammar with the schemas in it made such as can be enforced."""
    if len(_RULE.findall(text)) > MAX_RULES:
        raise InvalidRequest(f"`{param}` has more than {MAX_RULES} rules", param=param)
    parts, start = [], 0
    while found := _SCHEMA.search(text, start):
        try:
            inner, end = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError) as error:
            reason = f"what follows %json is no JSON: {error}"
            raise InvalidRequest(f"`{param}`: {reason}", param=param) from None
        parts += [text[start : found.end()], json.dumps(schema.prepared(inner, param))]
        start = end
    return "".join([*parts, text[start:]])


def _choice(text: str, param: str) -> str:
    choices = json.loads(text)
    if not choices or len(choices) > MAX_CHOICES or "" in choices:
        raise InvalidRequest(
            f"`{param}` must be a list of 1 to {MAX_CHOICES} strings, none of them empty",
            param=param,
        )
    # One terminal, so that a choice may begin another.
    return "start: CHOICE\nCHOICE: " + " | ".join(map(lark.quoted, choices))


def _regex(text: str, param: str) -> str:
    """The expression between slashes, as a terminal."""
    if not text:
        raise InvalidRequest(f"`{param}` is empty", param=param)
    return "/" + re.sub(r"\\.|/|\n", _escaped, text, flags=re.DOTALL) + "/"


def _escaped(found: re.Match[str]) -> str:
    return {"/": "\\/", "\n": "\\n", "\\\n": "\\n"}.get(found[0], found[0])
