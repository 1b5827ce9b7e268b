"""`llmengine config`: show, check, list and write settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmengine.cli.options import takes_settings
from llmengine.errors import ConfigError
from llmengine.options import MASK, Option, options
from llmengine.settings import Settings, load, render, values

app = typer.Typer(help="Show, check and write settings.")


@app.callback(invoke_without_command=True)
def config(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@takes_settings(quiet=True)
def show(
    settings: Settings,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show every setting, its value and where it came from."""
    shown = {path: _value(settings, option) for path, option in options().items()}
    if json:
        import msgspec

        rows = {path: {"value": shown[path], "source": settings.sources[path]} for path in shown}
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)))
        return
    texts = {path: values.to_toml(value) for path, value in shown.items()}
    for path, text in texts.items():
        typer.echo(f"{path:<36} {text:<20} {settings.sources[path]}")


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Config file; else the usual one.")] = None,
) -> None:
    """Check a config file and the environment.

    The exit code is 2 if something is wrong.
    """
    settings = load(path=file)
    typer.echo(f"{settings.file or 'no config file, defaults and environment'}: ok")


@app.command(name="options")
def list_options() -> None:
    """List every setting with its values and variable."""
    typer.echo(render.options_table())


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("config.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a config file with every default."""
    try:
        with file.open("w" if force else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(render.default_toml())
    except FileExistsError as error:
        raise ConfigError(f"{file} exists; --force overwrites it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: cannot be written: {reason}") from error
    typer.echo(f"wrote {file}", err=True)


def _value(settings: Settings, option: Option) -> object:
    value = getattr(getattr(settings.config, option.section), option.key)
    return MASK if option.secret and value else value
