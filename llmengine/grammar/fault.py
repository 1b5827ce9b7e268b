"""Which part of a JSON schema llguidance refuses: it says why, but not where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llmengine.errors import InvalidRequest
from llmengine.grammar.keywords import LISTS, MAPS, SCHEMAS
from llmengine.grammar.schema import escaped

MAX_TRIES = 200

Part = tuple[Any, Any, str]  # a container, the key of a schema in it, its JSON pointer


def refusal(
    schema: dict[str, Any], parse: Callable[[], str], reason: str, param: str
) -> InvalidRequest:
    """The error that names the smallest part of `schema` without which `parse` succeeds.

    `parse` reads the schema, which is changed meanwhile, and returns why it is refused.
    """
    at, tries = "#", 0
    parts = _parts(schema, at)
    while (part := next(parts, None)) and tries < MAX_TRIES:
        container, key, place = part
        kept, container[key] = container[key], True
        tries += 1
        if not parse():
            at, parts = place, _parts(kept, place)
        container[key] = kept
    return InvalidRequest(
        f"`{param}`: {at} cannot be enforced: {reason}", param=param, code="unsupported_schema"
    )


def _parts(schema: Any, at: str) -> Iterator[Part]:
    for keyword, value in schema.items() if isinstance(schema, dict) else ():
        if keyword in SCHEMAS:
            yield schema, keyword, f"{at}/{keyword}"
        elif keyword in LISTS:
            yield from ((value, index, f"{at}/{keyword}/{index}") for index in range(len(value)))
        elif keyword in MAPS:
            yield from ((value, name, f"{at}/{keyword}/{escaped(name)}") for name in list(value))
