"""JSON schemas as llguidance can enforce them; the others are refused by the keyword.

https://json-schema.org/draft/2020-12; of older drafts the forms that mean the same are taken.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote

from llmengine.errors import InvalidRequest
from llmengine.grammar import pattern
from llmengine.grammar.keywords import (
    FORMATS,
    LISTS,
    MAPS,
    REFUSED,
    SCHEMAS,
    TYPES,
    UNENFORCED_FORMATS,
)

MAX_DEPTH = 50  # of schemas in schemas: JSON may nest 128 deep in llguidance
MAX_LEVELS = 800  # that references may lead down: llguidance recurses
MAX_SCHEMAS = 10_000
MAX_DIVISOR = 10_000  # digits of multipleOf: its automaton has as many states
MAX_EXACT = 2**53  # llguidance computes in doubles

# Blanks are bounded: a model that falls into them would never end. Without \uXXXX a key can be
# written in one way only, so that no additional property can pass for a declared one.
OPTIONS = {"whitespace_pattern": r" |\n[ \t]{0,32}", "json_allowed_escapes": 'nrbtf"\\'}


def parsed(text: str, param: str) -> dict[str, Any]:
    """`prepared`, of a schema's JSON."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"`{param}` is not valid JSON: {error}", param=param) from None
    return prepared(schema, param)


def prepared(schema: Any, param: str) -> dict[str, Any]:
    """The schema for llguidance, also within `%json` of a Lark grammar.

    Raises InvalidRequest, with `param`, for what cannot be enforced.
    """
    walk = _Walk(param)
    found = walk.schema(schema, "#")
    if found is False:
        walk.refuse("#", "nothing satisfies it")
    walk.check_references()
    return {**(found if isinstance(found, dict) else {}), "x-guidance": OPTIONS}


class _Walk:
    """Goes through a schema once. Places are JSON pointers into the schema as it came."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._around: list[str] = []  # places of the schemas around the current one
        self._references: dict[str, str] = {}  # places that are referred to, and from where
        self._deepest: dict[str, int] = {}  # levels from a place to the deepest reference in it

    def refuse(self, at: str, reason: str) -> NoReturn:
        raise InvalidRequest(
            f"`{self._param}`: {at} cannot be enforced: {reason}",
            param=self._param,
            code="unsupported_schema",
        )

    def schema(self, schema: Any, at: str) -> dict[str, Any] | bool:
        """The schema without what narrows nothing, in the words of draft 2020-12."""
        if len(self._around) > MAX_DEPTH:
            self.refuse(at, f"it nests deeper than {MAX_DEPTH}")
        if len(self._deepest) > MAX_SCHEMAS:
            self.refuse(at, f"there are more than {MAX_SCHEMAS} schemas in it")
        self._deepest[at] = 0
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self.refuse(at, "a schema is an object, true or false")
        self._around.append(at)
        found: dict[str, Any] = {}
        for keyword, value in _modern(schema).items():
            self._keyword(found, keyword, value, f"{at}/{escaped(keyword)}")
        self._around.pop()
        least = found.get("minProperties", 0)
        sealed = found.get("additionalProperties") is False and "patternProperties" not in found
        if least > len(set(found.get("required", ()))) and not sealed:
            # The same key twice would count as two.
            self.refuse(f"{at}/minProperties", "it needs additionalProperties false")
        return found

    def check_references(self) -> None:
        """Each names a schema, and they do not lead deeper than llguidance's stack."""
        for place, origin in self._references.items():
            if place not in self._deepest:
                self.refuse(origin, f"{place} is no schema here")
        levels = sum(self._deepest[place] + 1 for place in self._references)
        if levels > MAX_LEVELS:
            origin = next(reversed(self._references.values()))
            self.refuse(origin, f"references lead more than {MAX_LEVELS} levels deep")

    def _keyword(self, found: dict[str, Any], keyword: str, value: Any, at: str) -> None:
        if keyword in LISTS:
            if not isinstance(value, list) or not value:
                self.refuse(at, "it must be a list of schemas")
            parts = [self.schema(each, f"{at}/{index}") for index, each in enumerate(value)]
            found[keyword] = found.get(keyword, []) + parts
        elif keyword in MAPS:
            if not isinstance(value, dict):
                self.refuse(at, "it must be an object of schemas")
            if keyword == "patternProperties":
                for name in value:
                    self._pattern(name, f"{at}/{escaped(name)}")
            found[keyword] = {
                name: self.schema(each, f"{at}/{escaped(name)}") for name, each in value.items()
            }
        elif keyword in SCHEMAS:
            found[keyword] = self.schema(value, at)
        elif keyword in TYPES:
            self._value(found, keyword, value, at)
        elif keyword in REFUSED and not (keyword == "uniqueItems" and value is False):
            self.refuse(at, "the keyword is not offered")

    def _value(self, found: dict[str, Any], keyword: str, value: Any, at: str) -> None:
        expected = TYPES[keyword]
        if not isinstance(value, expected) or (isinstance(value, bool) and keyword != "const"):
            self.refuse(at, "it is not of the type that JSON Schema gives it")
        if not _is_exact(value):
            self.refuse(at, "it has a number beyond the exact ones of a double")
        if keyword == "$ref":
            self._reference(value, at)
        elif keyword == "pattern":
            self._pattern(value, at)
        elif keyword == "multipleOf" and not 0 < _digits(value) <= MAX_DIVISOR:
            self.refuse(at, f"its digits must make a number of 1 to {MAX_DIVISOR}")
        elif keyword == "format":
            if value in UNENFORCED_FORMATS:
                self.refuse(at, f"the format {value} is not offered")
            if value not in FORMATS:
                return  # not one of JSON Schema's: it tells, and narrows nothing
            if shape := FORMATS[value]:
                found["allOf"] = [*found.get("allOf", ()), {"pattern": shape}]
        found[keyword] = value

    def _pattern(self, expression: str, at: str) -> None:
        if reason := pattern.fault(expression):
            self.refuse(at, reason)

    def _reference(self, reference: str, at: str) -> None:
        place = unquote(reference)
        if not place.startswith("#"):
            self.refuse(at, "only references within the schema, like #/$defs/name, are offered")
        self._references.setdefault(place, at)
        for depth, around in enumerate(reversed(self._around)):
            self._deepest[around] = max(self._deepest[around], depth)


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """Drafts before 2020-12 have `items` and `additionalItems` for `prefixItems` and `items`."""
    found: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "items" and isinstance(value, list):
            found["prefixItems"] = value
        elif keyword != "additionalItems":
            found[keyword] = value
        elif isinstance(schema.get("items"), list):
            found["items"] = value
    return found


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _is_exact(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_exact, value.values()))
    if isinstance(value, list):
        return all(map(_is_exact, value))
    if isinstance(value, int):
        return abs(value) <= MAX_EXACT
    return not isinstance(value, float) or math.isfinite(value)


def _digits(number: float) -> int:
    """25 for 0.25 and for 2500."""
    digits = Decimal(str(number)).normalize().as_tuple().digits
    return int("".join(map(str, digits)))
