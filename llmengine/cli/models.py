"""`llmengine models`: what `--model` and its like can name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from llmengine.cli import table
from llmengine.cli.options import takes_settings
from llmengine.cli.table import Column
from llmengine.settings import Settings


class Entry(Struct, frozen=True):
    name: str
    kind: str  # model or projector
    size_bytes: int
    path: str


@takes_settings("model.models_dir", quiet=True)
def models(
    settings: Settings,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models and projectors that can be named.

    In a pipe the columns are: name, model or projector, bytes, path.
    """
    from llmengine.models import locate

    config = settings.config.model
    found = [_entry("model", *each) for each in locate.listing(config).items()]
    found += [_entry("projector", *each) for each in locate.projectors(config).items()]
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        table.show(_COLUMNS, found)


def _entry(kind: str, name: str, path: Path) -> Entry:
    from llmengine.models.locate import size_of

    return Entry(name, kind, size_of(path), str(path))


_COLUMNS = (
    Column("name", lambda entry: entry.name),
    Column("kind", lambda entry: entry.kind),
    Column("size", lambda entry: entry.size_bytes, human=table.size, right=True),
    Column("path", lambda entry: entry.path),
)
