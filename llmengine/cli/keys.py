"""`llmengine keys`: the API keys of a server."""

from __future__ import annotations

import time
from typing import Annotated, Any, get_args

import typer

from llmengine.cli import table
from llmengine.cli.options import by_settings, takes_settings
from llmengine.cli.stdin import check_text
from llmengine.cli.table import Column
from llmengine.config import Config
from llmengine.errors import InvalidRequest
from llmengine.keys import LEAST_URGENT, MOST_URGENT, Key, KeyFile, Scope, generated
from llmengine.settings import Settings

app = typer.Typer(help="Make, list and revoke the API keys of a server.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=0, metavar="COUNT", help="0: no limit.")]


@app.callback(invoke_without_command=True)
def keys(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@takes_settings("server.keys_file", quiet=True)
def add(
    settings: Settings,
    label: Annotated[
        str, typer.Option(metavar="TEXT", help="Whose it is, for you to remember.")
    ] = "",
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="SCOPE",
            help="inference, admin or metrics; may be repeated.",
            autocompletion=lambda: list(get_args(Scope)),
        ),
    ] = ["inference"],  # noqa: B006  (typer reads it, nobody writes it)
    requests_per_minute: Limit = 0,
    tokens_per_minute: Limit = 0,
    max_concurrent: Limit = 0,
    priority: Annotated[
        int,
        typer.Option(
            min=MOST_URGENT,
            max=LEAST_URGENT,
            metavar="N",
            help="From -8, the most urgent, to 8; requests may have less.",
        ),
    ] = 0,
) -> None:
    """Make a key and print it.

    It is shown this once: the file has only its hash.
    """
    unknown = [each for each in scope if each not in get_args(Scope)]
    if unknown:
        raise InvalidRequest(f"--scope {unknown[0]}: choose inference, admin or metrics")
    secret, key = generated(
        label=check_text(label, "the label"),
        scopes=scope,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_concurrent=max_concurrent,
        priority=priority,
    )
    file = KeyFile(settings.config.server.keys_file)
    file.add(key)
    typer.echo(secret)
    typer.echo(f"{key.id} is in {file.path}; the key itself is nowhere but here", err=True)


@app.command("list")
@takes_settings("server.keys_file", quiet=True)
def list_keys(settings: Settings, json: Json = False) -> None:
    """List the keys, without what they open.

    In a pipe the columns are: id, scopes, requests and tokens per minute, requests at once,
    priority, day it was made, label.
    """
    found = KeyFile(settings.config.server.keys_file).read()
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode([_shown(key) for key in found])))
    else:
        table.show(_COLUMNS, found)


def _shown(key: Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__struct_fields__ if name != "digest"}


_COLUMNS = (
    Column("id", lambda key: key.id),
    Column("scopes", lambda key: key.scopes),
    Column("requests/min", lambda key: key.requests_per_minute or None, right=True),
    Column("tokens/min", lambda key: key.tokens_per_minute or None, right=True),
    Column("at once", lambda key: key.max_concurrent or None, right=True),
    Column("priority", lambda key: key.priority, right=True),
    Column("made", lambda key: time.strftime("%Y-%m-%d", time.localtime(key.created))),
    Column("label", lambda key: key.label),
)


def _ids(config: Config) -> list[tuple[str, str]]:
    return [(key.id, key.label) for key in KeyFile(config.server.keys_file).read()]


@app.command()
@takes_settings("server.keys_file", quiet=True)
def revoke(
    settings: Settings,
    id: Annotated[
        str,
        typer.Argument(
            help="Id of a key, as `llmengine keys list` shows it.",
            autocompletion=by_settings(_ids),
        ),
    ],
) -> None:
    """Take a key's rights away.

    A running server goes on with it until its next start, or SIGHUP.
    """
    KeyFile(settings.config.server.keys_file).revoke(id)
    typer.echo(f"revoked {id}", err=True)
