"""Argument values that a model wrote as plain text, typed by the tool's schema."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)
_NAMED = {"true": True, "false": False, "null": None}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def json_of(text: str, schema: Mapping[str, Any]) -> str:
    """The JSON text of a value: what the model wrote if its type fits, else a string."""
    words = text.strip()
    types = schema.get("type")
    allowed = {types} if isinstance(types, str) else set(types or _TYPES)
    try:
        value, found = json.loads(words), words
    except (ValueError, RecursionError):
        if allowed == {"string"}:
            return quoted(text)
        try:
            value = python_value(words)
            found = json.dumps(value, ensure_ascii=False)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return quoted(text)
    fits = any(_is(value, each) for each in allowed)
    return found if fits or "string" not in allowed else quoted(text)


def ends_in_string(text: str) -> bool:
    """Whether `text` is a value of JSON or Python that is cut within a string."""
    text = text.lstrip()
    return text[:1] in ("{", "[", '"') and "".join(_STRING.split(text)).count('"') % 2 == 1


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES.get(name, ()))


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def python_value(source: str) -> Any:
    """A literal of Python, in which JSON is read too. Raises what `ast.literal_eval` does."""
    return _value(ast.parse(source, mode="eval").body, source)


def _value(node: ast.expr, source: str) -> Any:
    try:
        return json.loads(ast.get_source_segment(source, node) or "")
    except ValueError:
        pass
    if isinstance(node, ast.Name) and node.id in _NAMED:
        return _NAMED[node.id]
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each, source) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [str(ast.literal_eval(each)) if each else "" for each in node.keys]
        return dict(zip(keys, (_value(each, source) for each in node.values), strict=True))
    found = ast.literal_eval(node)
    if not isinstance(found, (str, int, float, bool, type(None))):
        raise ValueError("no value of JSON")
    return found
