"""Every setting as a list, made from the declarations in `llmengine.config`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import Meta, Struct

from llmengine.config import Config

MASK = "********"  # what is shown of a secret


class Option(Struct, frozen=True):
    """One setting, as its declaration describes it."""

    section: str
    key: str
    type: Any
    default: Any
    description: str
    alias: str = ""  # the shorter environment variable
    flag: str = ""  # without dashes
    secret: bool = False  # whether its value is kept out of errors and listings
    live: bool = False  # whether a running server takes a new value

    @property
    def path(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def env(self) -> str:
        return f"LLM_ENGINE_{self.section}__{self.key}".upper()


@cache
def options() -> Mapping[str, Option]:
    """Every option by its path, like `server.port`, in the order of declaration."""
    found = (
        _option(section.name, field)
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
        if _meta(field.type).description  # the others are set by code
    )
    return {each.path: each for each in found}


def _option(section: str, field: msgspec.structs.FieldInfo) -> Option:
    meta = _meta(field.type)
    extra = meta.extra or {}
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return Option(
        section=section,
        key=field.name,
        type=field.type,
        default=default,
        description=meta.description or "",
        alias=extra.get("env", ""),
        flag=extra.get("flag", "") or field.name.replace("_", "-"),
        secret=extra.get("secret", False),
        live=extra.get("live", False),
    )


def _meta(annotation: Any) -> Meta:
    """The Meta with a description in `Annotated[T, Meta]` or `Annotated[T, Meta] | None`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    for each in candidates:
        for meta in getattr(each, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta
    return Meta()
