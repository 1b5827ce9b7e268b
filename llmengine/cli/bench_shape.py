"""Options that both benchmarks have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from llmengine.cli.bench_output import say
from llmengine.errors import InvalidRequest
from llmengine.settings import Settings

if TYPE_CHECKING:
    from llmengine.bench.local import Found
    from llmengine.config import Config


def _shapes() -> list[str]:
    from llmengine.bench.shapes import SHAPES

    return list(SHAPES)


Shape = Annotated[
    str,
    typer.Option(
        "--shape",
        metavar="NAME[:KIND]",
        help="Measure random weights of that shape, like llama-8b:q4_k; or FILE.json[:KIND].",
        autocompletion=_shapes,
    ),
]


@contextmanager
def chosen(settings: Settings, shape: str, cells: int, found: Found) -> Iterator[Config]:
    """The settings, naming a model of random weights if a shape was asked for."""
    if not shape:
        yield settings.config
        return
    if settings.sources["model.model_path"].startswith("--"):
        raise InvalidRequest("--model and --shape exclude each other")
    from llmengine.bench.shaped import shaped

    with shaped(shape, settings.config, cells, say) as (found.target, config):
        yield config


def numbers(option: str, text: str, least: int, most: int) -> tuple[int, ...]:
    """Of `1,2,4`; raises InvalidRequest."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and least <= int(part) <= most for part in parts):
        raise InvalidRequest(f"{option} {text!r} is no list of numbers from {least} to {most}")
    return tuple(dict.fromkeys(map(int, parts)))
