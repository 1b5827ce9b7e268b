"""A hundred JSON schemas that are enforced."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT = {"type": "string", "maxLength": 12}
INTEGER = {"type": "integer", "minimum": -999, "maximum": 999}
NUMBER = {"type": "number", "minimum": -10, "maximum": 10, "multipleOf": 0.25}


def record(required: bool = True, **properties: Any) -> Schema:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required else [],
        "additionalProperties": False,
    }


def array(items: Any, least: int = 0, most: int = 3) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def either(*options: Any) -> Schema:
    return {"anyOf": list(options)}


def reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


SCALARS: list[Schema] = [
    TEXT, INTEGER, NUMBER, {"type": "boolean"}, {"type": "null"},
    {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "string", "minLength": 4, "maxLength": 4, "pattern": "^[a-zé😀]+$"},
    {"type": "integer", "minimum": 7, "maximum": 7},
    {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 4},
    {"type": "integer", "minimum": 1, "maximum": 1000, "multipleOf": 7},
    {"type": "number", "minimum": 0.5, "exclusiveMaximum": 0.75, "multipleOf": 0.125},
    {"type": "number", "exclusiveMinimum": -1.5, "maximum": 1.5, "multipleOf": 0.5},
    {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
    {"type": ["string", "boolean"], "maxLength": 3},
    {"const": "é\n\"quoted\" \\ / \u2028"}, {"const": 12}, {"const": None},
    {"const": {"a": [1, "x", None]}}, {"enum": ["red", "green", "blue"]},
    {"enum": [1, 2.5, "three", None, True, [4], {"five": 5}]},
    {"enum": ["a", "ab", "abc"]}, {"type": "string", "enum": ["x", "y", 3]},
]  # fmt: skip
PATTERNS: list[Schema] = [
    {"type": "string", "pattern": pattern, "maxLength": 24}
    for pattern in (
        "^[A-Z]{2}[0-9]{4}$", r"^\d{3}-\d{4}$", "^(?:yes|no)$", r"^\w+@\w+\.com$", "^[^a-z]{1,5}$",
        r"^\/[a-z]+\.(jpg|png)$", "^$", "^.{2}$", r"^[\u3042-\u3093]{1,4}$", "^a|b$", "cat",
        r"^\s?[+-]?\d{1,3}$",
    )
]  # fmt: skip
FORMATS: list[Schema] = [
    {"type": "string", "format": name, **limits}
    for name, limits in (
        ("date", {}), ("time", {"maxLength": 24}), ("date-time", {"maxLength": 32}), ("uuid", {}),
        ("email", {"maxLength": 24}), ("ipv4", {}), ("ipv6", {}), ("hostname", {"maxLength": 16}),
        ("duration", {"maxLength": 12}), ("uri", {"maxLength": 24}), ("int32", {"maxLength": 4}),
    )
]  # fmt: skip
OBJECTS: list[Schema] = [
    record(), record(a=INTEGER), record(a=TEXT, b=INTEGER, c=NUMBER),
    record(required=False, a=INTEGER), record(required=False, a=TEXT, b=INTEGER, c={"const": 1}),
    record(**{"ключ": INTEGER, "名前": TEXT, "é😀": {"type": "null"}}),
    record(**{"": INTEGER, " ": INTEGER, "a\"b\\c/d": INTEGER, "x~1y": INTEGER}),
    record(**{"not": INTEGER, "$ref": INTEGER, "if": TEXT}),
    record(a=record(b=record(c=record(d=record(e=INTEGER))))),
    record(**{f"p{n}": INTEGER for n in range(20)}),
    record(required=False, **{f"p{n}": INTEGER for n in range(20)}),
    record(a=INTEGER) | {"additionalProperties": INTEGER, "maxProperties": 3},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^x[0-9]$": INTEGER}, "additionalProperties": False,
     "maxProperties": 2},
    {"type": "object", "required": ["z"], "additionalProperties": INTEGER, "maxProperties": 2},
    record(required=False, a=INTEGER, b=INTEGER) | {"minProperties": 1},
    record(required=False, a=INTEGER, b=INTEGER) | {"maxProperties": 1},
    record(a=INTEGER, b=False) | {"required": ["a"]},
    record(a={"type": "string", "maxLength": 5, "title": "A", "default": "x", "examples": ["y"]}),
]  # fmt: skip
ARRAYS: list[Schema] = [
    array(INTEGER),
    array(TEXT, 2, 2),
    array({"type": "boolean"}, 1, 5),
    array(array(INTEGER)),
    array(record(a=INTEGER), 1, 2),
    array(False),
    array({"enum": ["a", "b"]}, 3, 3),
    array(INTEGER) | {"uniqueItems": False},
    {"type": "array", "prefixItems": [INTEGER, TEXT], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [INTEGER], "items": {"type": "null"}, "maxItems": 3},
    {"type": "array", "items": [INTEGER, {"type": "null"}], "additionalItems": False},
    array(either(INTEGER, TEXT, {"type": "null"}), 2, 4),
]
COMBINED: list[Schema] = [
    either(INTEGER, TEXT), either(record(a=INTEGER), record(b=TEXT)),
    either(record(k={"const": "a"}, v=INTEGER), record(k={"const": "b"}, v=TEXT)),
    {"oneOf": [INTEGER, TEXT, {"type": "null"}]},
    {"oneOf": [record(k={"const": "a"}, v=INTEGER), record(k={"const": "b"}, w=TEXT)]},
    {"oneOf": [{"const": "x"}, {"const": "y"}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
    {"allOf": [{"type": "string", "minLength": 2}, {"pattern": "^[ab]+$"}, {"maxLength": 4}]},
    {"allOf": [{"type": "object", "properties": {"a": INTEGER}, "required": ["a"]},
               {"properties": {"b": TEXT}, "required": ["b"], "maxProperties": 2}]},
    {"type": "object", "properties": {"a": INTEGER}, "required": ["a"],
     "additionalProperties": False, "anyOf": [{"properties": {"a": {"minimum": 5}}},
                                              {"properties": {"a": {"maximum": -5}}}]},
    either(either(INTEGER, {"type": "null"}), array(either(TEXT, INTEGER), 1, 1)),
    {"allOf": [either(INTEGER, TEXT), {"type": "integer"}]},
]  # fmt: skip
_NODE = record(value=INTEGER, next=either({"type": "null"}, reference("node")))
_TREE = record(name=TEXT, children=array(reference("tree"), 0, 2))
REFERENCES: list[Schema] = [
    {"$ref": "#/$defs/x", "$defs": {"x": INTEGER}},
    {"$ref": "#/definitions/x", "definitions": {"x": TEXT}},
    record(a=reference("x"), b=reference("x")) | {"$defs": {"x": {"enum": ["u", "v"]}}},
    {"$ref": "#/$defs/node", "$defs": {"node": _NODE}},
    {"$ref": "#/$defs/tree", "$defs": {"tree": _TREE}},
    record(required=False, self={"$ref": "#"}, n=INTEGER),
    {"$defs": {"a/b~c": INTEGER}, **array({"$ref": "#/$defs/a~1b~0c"}, 1, 2)},
    {"$defs": {"même": TEXT}, **array({"$ref": "#/$defs/m%C3%AAme"}, 1, 2)},
    record(a=INTEGER, b={"$ref": "#/properties/a"}),
    {"$ref": "#/$defs/x", "maximum": 5, "$defs": {"x": {"type": "integer", "minimum": 3}}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/s.json",
     **record(a={"$ref": "#/definitions/x"}), "definitions": {"x": INTEGER}},
    {"$defs": {"even": either({"type": "null"}, array(reference("odd"), 1, 1)),
               "odd": either({"const": 1}, array(reference("even"), 1, 1))},
     "$ref": "#/$defs/even"},
]  # fmt: skip
ALL = [*SCALARS, *PATTERNS, *FORMATS, *OBJECTS, *ARRAYS, *COMBINED, *REFERENCES]
