"""`llmengine cache`: the prompt cache, seen and steered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmengine.cli.options import by_settings, takes_settings
from llmengine.cli.stdin import check_text
from llmengine.config import Config
from llmengine.errors import InvalidRequest
from llmengine.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from llmengine.core import CacheControl

app = typer.Typer(help="Show and change what the prompt cache keeps.")

Url = Annotated[
    str,
    typer.Option("--url", metavar="URL", help="A running server's cache, not the one on disk."),
]
Key = Annotated[
    str,
    typer.Option(
        "--key", metavar="KEY", help="Its admin key, if it is not the one of the settings."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _ids(config: Config) -> list[tuple[str, str]]:
    """Those on disk: a shell that completes does not wait for a server."""
    from llmengine.cli.cache_access import opened

    with opened(config, "", "") as control:
        return [(entry.id, entry.label) for entry in control.list()]


Id = Annotated[
    str,
    typer.Argument(
        help="Id of an entry, or the beginning of one.",
        metavar="ID",
        autocompletion=by_settings(_ids),
    ),
]


@app.callback(invoke_without_command=True)
def cache(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@takes_settings("cache.path", quiet=True)
def stats(settings: Settings, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Show what each tier holds and how it did.

    In a pipe the columns are: tier, entries, pinned, tokens, bytes, limit in bytes, hits, hit
    tokens, misses, evictions, corrupt entries.
    """
    from llmengine.cli import cache_table

    with _opened(settings, url, key) as control:
        found = control.stats()
    _print_json(found) if json else cache_table.show_stats(found)


@app.command("list")
@takes_settings("cache.path", quiet=True)
def list_entries(settings: Settings, url: Url = "", key: Key = "", json: Json = False) -> None:
    """List the entries, the latest used first.

    In a pipe the columns are: id, tiers, tokens, bytes, uses, age, time since the last use, time
    left, whether it is pinned, label; times in seconds.
    """
    from llmengine.cli import cache_table

    with _opened(settings, url, key) as control:
        found = control.list()
    _print_json(found) if json else cache_table.show_list(found)


@app.command()
@takes_settings("cache.path", quiet=True)
def show(settings: Settings, id: Id, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Show an entry and its tokens.

    A running server gives its text as well.
    """
    from llmengine.cli import cache_table

    with _opened(settings, url, key) as control:
        found = control.show(id)
    _print_json(found) if json else cache_table.show_entry(found)


@app.command()
@takes_settings("cache.path", "model.model_path", "model.context_size", quiet=True)
def warm(
    settings: Settings,
    file: Annotated[str, typer.Argument(help="Text, or chat messages (*.json).", metavar="FILE")],
    label: Annotated[
        str, typer.Option("--label", metavar="TEXT", help="What to call it; else FILE.")
    ] = "",
    url: Url = "",
    key: Key = "",
    json: Json = False,
) -> None:
    """Compute the prompt in a file and keep its state, pinned.

    Without --url the model is loaded and the state goes to disk, for the next start.
    """
    from llmengine.chat import warm_file
    from llmengine.cli import cache_warming

    found = warm_file.read(file)
    label = check_text(label or file, "the label (--label gives another)")
    if url:
        from llmengine.cli.cache_access import remote

        _check_flags(settings)
        body = cache_warming.body(found, label)
        done = remote(settings.config, url, key).warm(body)
    else:
        done = cache_warming.warm(settings.config, found, label)
    if json:
        _print_json(done)
    else:
        computed = done.prompt_tokens - done.cached_tokens
        typer.echo(
            f"{done.label}: {done.prompt_tokens} tokens, {computed} computed, {done.seconds:.2f} s"
        )


@app.command()
@takes_settings("cache.path", quiet=True)
def pin(settings: Settings, id: Id, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Keep an entry from leaving."""
    with _opened(settings, url, key) as control:
        found = control.pin(id)
    _print_json({"id": found, "pinned": True}) if json else typer.echo(f"pinned {found}")


@app.command()
@takes_settings("cache.path", quiet=True)
def unpin(settings: Settings, id: Id, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Let a pinned entry leave again."""
    with _opened(settings, url, key) as control:
        found = control.pin(id, False)
    _print_json({"id": found, "pinned": False}) if json else typer.echo(f"unpinned {found}")


@app.command()
@takes_settings("cache.path", quiet=True)
def rm(settings: Settings, id: Id, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Remove an entry, also a pinned one."""
    with _opened(settings, url, key) as control:
        found = control.remove(id)
    _print_json({"id": found, "deleted": True}) if json else typer.echo(f"removed {found}")


@app.command()
@takes_settings("cache.path", quiet=True)
def clear(
    settings: Settings,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
    key: Key = "",
    json: Json = False,
) -> None:
    """Remove all entries, the pinned ones too."""
    with _opened(settings, url, key) as control:
        if not yes:
            _ask(len(control.list()))
        count = control.clear()
    _print_json({"deleted": count}) if json else typer.echo(f"removed {_entries(count)}")


@app.command()
@takes_settings("cache.path", quiet=True)
def verify(settings: Settings, url: Url = "", key: Key = "", json: Json = False) -> None:
    """Read all states on disk and drop those that are damaged.

    The exit code is 1 if there are any.
    """
    with _opened(settings, url, key) as control:
        corrupt = list(control.verify())
    if json:
        _print_json({"corrupt": corrupt})
    else:
        for each in corrupt:
            typer.echo(f"damaged, removed: {each}")
    if corrupt:
        raise typer.Exit(1)


def _opened(settings: Settings, url: str, key: str) -> AbstractContextManager[CacheControl]:
    from llmengine.cli.cache_access import opened

    if url:
        _check_flags(settings)
    return opened(settings.config, url, key)


def _check_flags(settings: Settings) -> None:
    """Raises InvalidRequest where a flag is about what a server has of its own."""
    for path in ("cache.path", "model.model_path", "model.context_size"):
        if settings.sources[path].startswith("--"):
            raise InvalidRequest(
                f"{settings.sources[path]} and --url exclude each other: a server has its own"
            )


def _ask(count: int) -> None:
    if not (sys.stdin and sys.stdin.isatty()):
        raise InvalidRequest("this removes every entry: add --yes where nobody can be asked")
    every = "all " if count > 1 else ""
    print(f"Remove {every}{_entries(count)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _print_json(found: object) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(found)))
