"""Sampling parameters as a person writes them: `temperature 0.2`, `stop "a,b"`, `top_k default`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llmengine.errors import InvalidRequest
from llmengine.options import Option, options
from llmengine.sampling import SamplingParams
from llmengine.settings import values
from llmengine.settings.merge import nearest

OPTIONS = {option.key: option for option in options().values() if option.section == "sampling"}


def option(key: str) -> Option:
    """The declaration of a parameter; InvalidRequest with the nearest name if there is none."""
    if key in OPTIONS:
        return OPTIONS[key]
    near = nearest(key, OPTIONS)
    hint = f"did you mean {near}?" if near else "`llmengine config options` lists them"
    raise InvalidRequest(f"no such sampling parameter: {key}; {hint}", param=key)


def parse(key: str, text: str) -> Any:
    """The value that `text` gives to a parameter; InvalidRequest with what is allowed.

    Lists and tables are JSON; a list may also stand plain, its items separated by commas.
    """
    declared = option(key)
    try:
        if key == "stop" and not text.startswith("["):
            return values.check(text.split(","), declared)  # white space counts in a stop string
        return values.parse(text, declared)
    except ValueError as error:
        raise _refusal(key, error) from error


def parse_all(pairs: Mapping[str, str]) -> dict[str, Any]:
    return {key: parse(key, text) for key, text in pairs.items()}


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that come from JSON, as the types they must have."""
    try:
        return {key: values.check(value, option(key)) for key, value in given.items()}
    except ValueError as error:
        raise _refusal("", error) from error


def apply(defaults: SamplingParams, given: Mapping[str, Any]) -> SamplingParams:
    return msgspec.structs.replace(defaults, **given)


def _refusal(key: str, error: ValueError) -> InvalidRequest:
    return InvalidRequest(str(error).removeprefix("sampling."), param=key or None)
