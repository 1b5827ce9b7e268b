"""Which JSON schemas are refused, and that it is said where."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemas
from grammars import accepts
from schemas import INTEGER, TEXT, array, record

from llmengine.errors import InvalidRequest
from llmengine.grammar import fault, schema
from llmengine.sampling import Constraint


def refused(given: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        schema.prepared(given, "p")
    assert (caught.value.param, caught.value.code) == ("p", "unsupported_schema")
    return caught.value.message


def form(given: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(given))


@pytest.mark.parametrize(
    "keyword",
    ["not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems",
     "propertyNames", "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedItems",
     "unevaluatedProperties", "$dynamicRef", "$recursiveRef"],
)  # fmt: skip
def test_keywords_that_narrow_and_are_not_enforced(keyword: str) -> None:
    inner = {"properties": {"a/b": {"anyOf": [INTEGER, {keyword: True}]}}}
    assert refused(inner) == (
        f"`p`: #/properties/a~1b/anyOf/1/{keyword} cannot be enforced: the keyword is not offered"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "#: a schema is"), (False, "#: nothing satisfies it"),
        ({"items": 5}, "#/items: a schema is"), ({"anyOf": []}, "#/anyOf: it must be a list"),
        ({"properties": []}, "#/properties: it must be an object"),
        ({"minLength": "3"}, "#/minLength: it is not of the type"),
        ({"minimum": True}, "#/minimum: it is not of the type"),
        ({"exclusiveMinimum": True}, "#/exclusiveMinimum: it is not of the type"),
        ({"const": 2**53 + 1}, "#/const: it has a number beyond"),
        ({"enum": [{"a": [10**20]}]}, "#/enum: it has a number beyond"),
        ({"multipleOf": 0}, "#/multipleOf: its digits"),
        ({"multipleOf": 0.123456}, "#/multipleOf: its digits"),
        ({"format": "iri"}, "#/format: the format iri"),
        ({"pattern": "(?=a)b"}, "#/pattern: (?=...): looking ahead"),
        ({"pattern": "(?<!a)b"}, "#/pattern: (?<!...): looking behind"),
        ({"pattern": "(?i)a"}, "#/pattern: (?i...): flags"),
        ({"pattern": r"(a)\1"}, "#/pattern: \\1: back-references"),
        ({"pattern": "[^a&&b]"}, "#/pattern: [^a&&b]: escape"),
        ({"pattern": "[[a]b]"}, "#/pattern: [[a]: escape"),
        ({"pattern": r"\Aa"}, "#/pattern: \\A means something else"),
        ({"patternProperties": {"[a--b]": {}}}, "#/patternProperties/[a--b]: [a--b]: escape"),
        ({"minProperties": 2}, "#/minProperties: it needs additionalProperties false"),
        ({"$ref": "https://example.com/x"}, "#/$ref: only references within"),
        ({"$ref": "#/$defs/x"}, "#/$ref: #/$defs/x is no schema here"),
        ({"$ref": "#/properties", "properties": {}}, "#/$ref: #/properties is no schema here"),
        (array(array(array(INTEGER))) | {"items": None}, "#/items: a schema is"),
    ],
)  # fmt: skip
def test_others_that_cannot_be_enforced(given: Any, message: str) -> None:
    at, _, reason = message.partition(": ")
    assert refused(given).startswith(f"`p`: {at} cannot be enforced: {reason}")


def test_depth_and_size_are_bounded() -> None:
    deep: Any = INTEGER
    for _ in range(60):
        deep = array(deep)
    assert "it nests deeper than 50" in refused(deep)
    assert "more than 10000 schemas" in refused(record(**{f"p{n}": {} for n in range(10_001)}))


def test_what_says_nothing_is_left_out() -> None:
    found = schema.prepared(
        {"title": "T", "nullable": True, "type": "integer", "x-guidance": {"lenient": True},
         "uniqueItems": False, "format": "int32", "$id": "x", "$schema": "y", "deprecated": True},
        "p",
    )  # fmt: skip
    assert found == {"type": "integer", "x-guidance": schema.OPTIONS}


def test_older_forms_of_arrays() -> None:
    found = schema.prepared({"items": [TEXT, INTEGER], "additionalItems": False}, "p")
    assert (found["prefixItems"], found["items"]) == ([TEXT, INTEGER], False)
    assert "additionalItems" not in schema.prepared({"items": TEXT, "additionalItems": False}, "p")


def test_no_other_spelling_of_a_key_passes_for_an_additional_one() -> None:
    """llguidance compares keys as they are written."""
    given = form({**record(a=INTEGER, é=INTEGER), "additionalProperties": TEXT})
    assert accepts(given, '{"a":1,"é":2,"b":"x"}')
    assert not accepts(given, '{"a":1,"é":2,"\\u0061":"x"}')
    assert not accepts(given, '{"a":1,"é":2,"\\u00e9":"x"}')
    assert not accepts(given, '{"a":1,"é":2,"a":"x"}')


def test_blanks_are_bounded() -> None:
    given = form(record(a=INTEGER))
    assert accepts(given, '{\n  "a": 1\n}')
    assert accepts(given, '{"a":1}')
    assert not accepts(given, '{"a":  1}')
    assert not accepts(given, ' {"a":1}')


def test_days_and_seconds_that_some_years_lack() -> None:
    day, moment = form({"format": "date"}), form({"type": "string", "format": "date-time"})
    assert accepts(day, '"2024-02-28"')
    assert not accepts(day, '"2024-02-29"')
    assert accepts(moment, '"2024-12-31T23:59:59.5+01:00"')
    assert not accepts(moment, '"2024-12-31T23:59:60Z"')


def test_a_schema_in_a_grammar_is_held_to_the_same() -> None:
    given = Constraint("lark", 'start: "<" %json {"const": "a", "x-guidance": {}} ">"')
    assert accepts(given, '<"a">')


def test_the_smallest_part_that_is_refused_is_named() -> None:
    given = record(a=array(INTEGER), b=record(c={"oneOf": [TEXT, INTEGER, {"bad": 1}]}))

    def parse() -> str:
        return "told" if "bad" in json.dumps(given) else ""

    error = fault.refusal(given, parse, "told", "p")
    assert error.message == "`p`: #/properties/b/properties/c/oneOf/2 cannot be enforced: told"
    assert "bad" in json.dumps(given)


@pytest.mark.parametrize("given", schemas.ALL)
def test_the_hundred_are_taken(given: dict[str, Any]) -> None:
    assert schema.prepared(given, "p")["x-guidance"] == schema.OPTIONS
