"""Flags of the commands, made from the declarations in `llmengine.config`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from llmengine import log
from llmengine.cli import title
from llmengine.config import Config, LoggingConfig
from llmengine.options import Option, options
from llmengine.settings import Settings, load, values

SHORT = {"model.model_path": "-m"}

Command = Callable[..., Any]
T = TypeVar("T")


def takes_settings(*paths: str, quiet: bool = False) -> Callable[[Command], Command]:
    """Give a command its `settings: Settings`, from the config file, environment and flags.

    `paths` are the options that have a flag of their own; `--config FILE` and
    `--set section.key=value`, for all the others, come by themselves. Logging is configured from
    the settings; a `quiet` command logs from warnings on unless a level was chosen.
    """
    known = options()
    flags = {path.replace(".", "_"): known[path] for path in paths}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_settings(
            config_file: Path | None, assignments: list[str] | None, **arguments: Any
        ) -> Any:
            given = {option.path: arguments.pop(name) for name, option in flags.items()}
            settings = load(given, assignments=assignments or (), path=config_file)
            title.conceal(title.secrets_of(settings.config))
            log.configure(_logging(settings, quiet))
            return command(settings=settings, **arguments)

        _declare(with_settings, [*_own(command), *_flags(flags), *_common()])
        return with_settings

    return decorate


def flag_help(option: Option) -> str:
    """`Port to listen on. [an integer from 0 to 65535; default: 8000]`"""
    allowed = values.describe(option)
    default = "" if option.default in (None, "", ()) else str(option.default)
    if values.is_boolean(option):
        allowed, default = "", "on" if option.default else "off"
    notes = [
        *([allowed] if allowed not in ("", "a string") else []),
        *([f"default: {default}"] if default else []),
    ]
    return f"{option.description} [{'; '.join(notes)}]" if notes else option.description


def _logging(settings: Settings, quiet: bool) -> LoggingConfig:
    config = settings.config.logging
    # A config file that repeats the default, as `config init` writes it, asks for nothing.
    asked = settings.sources["logging.level"].startswith(("--", "LLM_ENGINE_"))
    if quiet and not asked and config.level == LoggingConfig().level:
        return msgspec.structs.replace(config, level="warning")
    return config


def _own(command: Command) -> Iterator[inspect.Parameter]:
    """The parameters that the command declares beside its settings."""
    # Not get_type_hints: Python 3.10's hides what is annotated when the default is None.
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != "settings":
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _flags(flags: Mapping[str, Option]) -> Iterator[inspect.Parameter]:
    # Values stay text: the environment, `--set` and flags are read and refused by one parser.
    for name, option in flags.items():
        names = [f"--{option.flag}"]
        if values.is_boolean(option):
            yield _parameter(name, bool | None, f"{names[0]}/--no-{option.flag}", option=option)
        else:
            names += [SHORT[option.path]] if option.path in SHORT else []
            yield _parameter(name, str | None, *names, option=option)


def _parameter(name: str, kind: Any, *names: str, option: Option) -> inspect.Parameter:
    allowed = values.choices(option)
    declared = typer.Option(
        *names,
        metavar=None if kind == bool | None else option.key.rpartition("_")[2].upper(),
        help=flag_help(option),
        autocompletion=_completion(option, allowed),
    )
    return _keyword(name, Annotated[kind, declared])


def _completion(option: Option, allowed: tuple[str, ...]) -> Callable[[], list[str]] | None:
    if option.path in ("model.model_path", "model.draft_model", "model.mmproj"):
        return by_settings(functools.partial(_model_names, projector=option.path == "model.mmproj"))
    return (lambda: list(allowed)) if allowed else None


def _model_names(config: Config, projector: bool) -> list[str]:
    from llmengine.models import locate

    found = locate.projectors if projector else locate.listing
    return list(found(config.model))


def by_settings(find: Callable[[Config], list[T]]) -> Callable[[], list[T]]:
    """A completion that needs the settings; it has nowhere to report a broken file."""

    def complete() -> list[T]:
        from llmengine.errors import EngineError

        try:
            return find(load().config)
        except EngineError:
            return []

    return complete


def _common() -> Iterator[inspect.Parameter]:
    config = typer.Option("--config", metavar="FILE", help="Config file to read.")
    assignment = typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any other setting; may be repeated. `llmengine config options` lists them.",
        autocompletion=_assignments,
    )
    yield _keyword("config_file", Annotated[Path | None, config])
    yield _keyword("assignments", Annotated[list[str] | None, assignment])


def _assignments(incomplete: str) -> list[str]:
    return [f"{path}=" for path in options() if path.startswith(incomplete)]


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _declare(command: Command, parameters: list[inspect.Parameter]) -> None:
    """Make typer see `parameters` instead of the ones in the source."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
