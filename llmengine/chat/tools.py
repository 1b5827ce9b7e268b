"""The functions that a model may call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from llmengine.errors import InvalidRequest

PLAIN_STRING = {"type", "description", "title", "default", "examples"}


class Tool(Struct, frozen=True):
    """A function with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""
    strict: bool = False

    @property
    def properties(self) -> Mapping[str, Any]:
        found = self.parameters.get("properties")
        return found if isinstance(found, Mapping) else {}

    @property
    def open(self) -> bool:
        """Whether it takes any arguments: its schema says nothing of them."""
        return self.parameters.keys() <= {"type", "title", "description", "$schema"}

    def schema_of(self, key: str) -> Mapping[str, Any]:
        """The schema of one argument; {} where none is given."""
        found = self.properties.get(key)
        return found if isinstance(found, Mapping) else {}

    def is_text(self, key: str) -> bool:
        """Whether an argument is a string that formats with tags write without quotes."""
        return writes_as_text(self.schema_of(key))


def writes_as_text(schema: Mapping[str, Any]) -> bool:
    """Whether every value of `schema` is a string, on which it asks no more than an enum."""
    choices = schema.get("enum")
    if choices is not None:
        return bool(choices) and all(isinstance(each, str) for each in choices)
    return schema.get("type") == "string" and schema.keys() <= PLAIN_STRING


def of_openai(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools of a request shaped as OpenAI's API has them."""
    found = []
    for each in tools:
        function = each["function"]
        found.append(
            Tool(
                function["name"],
                function.get("parameters") or {"type": "object", "properties": {}},
                function.get("description") or "",
                bool(function.get("strict")),
            )
        )
    return tuple(found)


_OBJECT_KEYS = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "title",
    "description",
    "$defs",
    "definitions",
    "$schema",
}


def held_properties(tool: Tool) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """The name, the schema and whether it is required, of each argument.

    For formats that write arguments one by one. Raises InvalidRequest where the whole object has
    to be known to tell whether it fits.
    """
    required = set(tool.parameters.get("required") or ())
    beyond = sorted(tool.parameters.keys() - _OBJECT_KEYS)
    reason = f"{beyond[0]!r}" if beyond else ""
    if missing := sorted(required - tool.properties.keys()):
        reason = f"'required' with {missing[0]!r}, which is no property,"
    if reason:
        raise InvalidRequest(
            f"the function {tool.name!r} cannot be held to its schema: this model's format writes"
            f" arguments one by one, so {reason} cannot be kept at its top",
            param="tools",
            code="unsupported_schema",
        )
    names = tool.parameters.keys() & {"$defs", "definitions"}
    shared = {name: tool.parameters[name] for name in names}
    for key, schema in tool.properties.items():
        found = dict(schema) if isinstance(schema, Mapping) else {}
        yield key, (found if writes_as_text(found) else {**found, **shared}), key in required
