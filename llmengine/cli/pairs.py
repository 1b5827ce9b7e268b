"""`-o key value`, any number of times: typer has options of two values, and repeated options,
but not both at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer.core

from llmengine.cli import sampling_values
from llmengine.errors import InvalidRequest

NAMES = ("-o", "--option")


class PairCommand(typer.core.TyperCommand):
    """A command whose `-o key value` arrives as `key=value`, which may be written as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        completing = ctx.resilient_parsing  # the last pair may lack its value, or all of it
        return super().parse_args(ctx, args if completing else list(joined(args)))


def joined(arguments: Sequence[str]) -> Iterator[str]:
    """`arguments`, each `-o key value` as `-o key=value`; what follows `--` is left alone."""
    rest = iter(arguments)
    for argument in rest:
        yield argument
        if argument == "--":
            yield from rest
        elif argument in NAMES:
            yield _pair(next(rest, ""), rest)


def split(pairs: Sequence[str]) -> dict[str, str]:
    """Values by key; the last one counts."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def complete(incomplete: str) -> list[tuple[str, str]]:
    return [
        (f"{key}=", option.description)
        for key, option in sampling_values.OPTIONS.items()
        if key.startswith(incomplete)
    ]


def _pair(key: str, rest: Iterator[str]) -> str:
    if "=" in key:
        return key
    value = next(rest, None)
    if value is None:
        raise InvalidRequest(f"-o {key}".strip() + ": write -o key value")
    return f"{key}={value}"
