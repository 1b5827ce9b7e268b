"""The values that a place in a body may have, where they can be counted."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, inspect

_STEP = re.compile(r"\w+|\[[^\]]*\]")
_type_info = functools.cache(inspect.type_info)


def choices(kind: type[Struct], path: str) -> list[Any]:
    """Those of `path`, as msgspec writes it: `messages[0].role`."""
    types: Sequence[inspect.Type] = [_type_info(kind)]
    for step in _STEP.findall(path):
        types = [inner for each in _flat(types) for inner in _inside(each, step)]
    found = [each.values for each in _flat(types) if isinstance(each, inspect.LiteralType)]
    return list(dict.fromkeys(value for values in found for value in values))


def _flat(types: Sequence[inspect.Type]) -> Iterator[inspect.Type]:
    for each in types:
        if isinstance(each, inspect.UnionType):
            yield from _flat(each.types)
        elif isinstance(each, inspect.Metadata):
            yield from _flat([each.type])
        else:
            yield each


def _inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """The types of what is one step further in."""
    if isinstance(kind, inspect.StructType):
        yield from (each.type for each in kind.fields if each.encode_name == step)
        if kind.tag_field == step:
            yield inspect.LiteralType((kind.tag,))
    elif step.startswith("[") and isinstance(kind, inspect.CollectionType):
        yield kind.item_type
    elif step.startswith("[") and isinstance(kind, inspect.DictType):
        yield kind.value_type
