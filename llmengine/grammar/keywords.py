"""The keywords and formats of JSON Schema: enforced, refused, or without a say."""

from __future__ import annotations

from typing import Any

# Keywords with a plain value, and its type.
TYPES: dict[str, Any] = {
    **dict.fromkeys(("$ref", "pattern", "format"), str),
    **dict.fromkeys(("enum", "required"), list),
    **dict.fromkeys(("minItems", "maxItems", "minProperties", "maxProperties"), int),
    **dict.fromkeys(("minLength", "maxLength"), int),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), (int, float)),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (int, float)),
    "type": (str, list),
    "const": object,
}
# Keywords with schemas in them.
LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
MAPS = frozenset({"$defs", "definitions", "properties", "patternProperties"})
SCHEMAS = frozenset({"additionalProperties", "items"})
# Keywords of any draft that narrow what is valid and that cannot be enforced. All other keywords
# say something about a value and are left out.
REFUSED = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
        "extends",
        "disallow",
        "divisibleBy",
    }
)

# Formats of JSON Schema that are enforced, with what their expressions in llguidance leave open:
# leap days and leap seconds, which exist in some years only, are never written.
_DAY = r"[1-9][0-9]{3}-(?:0[13-9]|1[0-2]|02-(?:[01][0-9]|2[0-8]))"
_SECOND = r"[0-9]{2}:[0-9]{2}:[0-5][0-9]"
FORMATS: dict[str, str | None] = {
    "date": f"^{_DAY}",
    "date-time": f"^{_DAY}[-0-9]*[tT]{_SECOND}",
    "time": f"^{_SECOND}",
    "hostname": "^.{1,253}$",
    **dict.fromkeys(("duration", "email", "ipv4", "ipv6", "uri", "uuid")),
}
UNENFORCED_FORMATS = frozenset(
    {
        "idn-email",
        "idn-hostname",
        "uri-reference",
        "iri",
        "iri-reference",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    }
)
