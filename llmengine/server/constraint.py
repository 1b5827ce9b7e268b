"""What a request says of the form of its answer: one of several parameters."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from llmengine.errors import InvalidRequest
from llmengine.sampling import Constraint
from llmengine.server.bodies import Body, ResponseFormat, Schema


def of(body: Body, thinking: tuple[str, str] | None = None) -> Constraint | None:
    """The constraint that `body` asks for, which holds after the thinking.

    Raises InvalidRequest if it asks for two, or for one that is not offered.
    """
    found = list(_given(body))
    if len(found) > 1:
        first, second = found[0].param, found[1].param
        raise InvalidRequest(f"`{second}` and `{first}` exclude each other", param=second)
    return msgspec.structs.replace(found[0], thinking=thinking) if found else None


def _given(body: Body) -> Iterator[Constraint]:
    if body.response_format is not None:
        yield from _response_format(body.response_format)
    if body.grammar is not None:
        yield Constraint("gbnf", body.grammar, param="grammar")
    nested = body.structured_outputs
    if nested is not None and nested.json_object:
        yield Constraint("json_object", param="structured_outputs.json_object")
    for name in ("json", "regex", "choice", "grammar"):
        flat = f"guided_{name}"
        yield from _extension(name, getattr(body, flat), flat)
        if nested is not None:
            yield from _extension(name, getattr(nested, name), f"structured_outputs.{name}")


def _response_format(format: ResponseFormat) -> Iterator[Constraint]:
    """https://platform.openai.com/docs/api-reference/chat/create#chat-create-response_format"""
    if format.type == "json_object":
        yield Constraint("json_object", param="response_format")
    elif format.type == "json_schema":
        if format.json_schema is None:
            param = "response_format.json_schema"
            raise InvalidRequest(f"`{param}` is missing", param=param)
        yield _schema(format.json_schema.schema, "response_format.json_schema.schema")
    elif format.type != "text":
        raise InvalidRequest(
            f"`response_format.type`: {format.type[:50]!r} is not offered; "
            "'text', 'json_object' and 'json_schema' are",
            param="response_format.type",
            code="unsupported_parameter",
        )


def _extension(
    name: str, value: Schema | str | list[str] | None, param: str
) -> Iterator[Constraint]:
    """vLLM's parameters: a schema also as text, and grammars in GBNF or Lark."""
    if isinstance(value, (dict, bool)):
        yield _schema(value, param)
    elif isinstance(value, list):
        yield Constraint("choice", msgspec.json.encode(value).decode(), param=param)
    elif value is not None and name == "grammar":
        yield Constraint("gbnf" if "::=" in value else "lark", value, param=param)
    elif value is not None:
        yield Constraint("regex" if name == "regex" else "json_schema", value, param=param)


def _schema(value: Schema, param: str) -> Constraint:
    return Constraint("json_schema", msgspec.json.encode(value).decode(), param=param)
