"""Config file < environment < command line, checked and merged into one Config."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from llmengine import log
from llmengine.config import Config
from llmengine.errors import ConfigError
from llmengine.options import Option, options
from llmengine.settings import file, values
from llmengine.settings.file import ConfigFile

PREFIX = "LLM_ENGINE_"
# Variables of llmengine that are no settings.
RESERVED = frozenset({file.VARIABLE, "LLM_ENGINE_RAISE_ERRORS"})


class Settings(Struct, frozen=True):
    config: Config
    sources: dict[str, str]  # option path -> "default", "config.toml:12", a variable or a flag
    file: Path | None = None  # the config file that was read
    again: Callable[[], Settings] = lambda: load()  # reads all sources once more


class Given(Struct, frozen=True):
    """A value that somebody gave to an option."""

    path: str
    value: Any
    source: str
    as_text: bool = True  # whether a string is yet to be read as the option's type


class Unknown(Struct, frozen=True):
    """A name that is no option."""

    name: str
    source: str
    candidates: Iterable[str]

    @property
    def problem(self) -> str:
        near = nearest(self.name, self.candidates)
        hint = f"; did you mean {near}?" if near else "; `llmengine config options` lists all"
        name = "" if self.name == self.source else f" {values.shorten(log.printable(self.name))}"
        return f"{self.source}: no such setting{name}{hint}"


def load(
    flags: Mapping[str, object] = {},
    *,
    assignments: Sequence[str] = (),
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings that all sources give together.

    `flags` maps option paths like `server.port` to values or their text, None where the flag was
    not given; `assignments` are texts like `server.port=80`, which flags override; `path` is the
    config file, searched for when it is None. Raises ConfigError with one line per problem.
    """
    known = options()
    found = file.find(path, environ)
    config_file = file.read(found) if found else None
    given = list(
        chain(
            _in_file(config_file, known) if config_file else (),
            _in_environment(environ, known),
            _in_assignments(assignments, known),
            _in_flags(flags, known),
        )
    )
    problems = [each.problem for each in given if isinstance(each, Unknown)]
    if problems and path is None and config_file and not config_file.tables.keys() & _sections():
        problems.append(
            f"{found}: not llmengine's? Name another with --config FILE or {file.VARIABLE}"
        )
    chosen: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    for each in (each for each in given if isinstance(each, Given)):
        sources[each.path] = each.source
        try:
            chosen[each.path] = _value(each, known[each.path])
        except ValueError as error:
            problems.append(f"{each.source}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    again = partial(load, flags, assignments=assignments, path=path, environ=environ)
    settings = Settings(_build(chosen), sources, found, again)
    _check_together(settings)
    return settings


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`: the same key elsewhere, or one spelled nearly so."""
    known = list(candidates)
    key = name.rpartition(".")[2]
    if same := [each for each in known if each.rpartition(".")[2] == key]:
        return same[0]
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        return close[0]
    keys = {each.rpartition(".")[2]: each for each in reversed(known)}
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.7)
    return keys[close[0]] if close else None


def _in_file(config_file: ConfigFile, known: Mapping[str, Option]) -> Iterator[Given | Unknown]:
    for section, table in config_file.tables.items():
        if section not in _sections():
            yield Unknown(section, config_file.where(section), [*_sections(), *known])
        elif not isinstance(table, dict):
            raise ConfigError(
                f"{config_file.where(section)}: {section} must be a table: [{section}]"
            )
        else:
            for key, value in table.items():
                path = f"{section}.{key}"
                source = config_file.where(path)
                if path in known:
                    yield Given(path, value, source, as_text=False)
                else:
                    yield Unknown(path, source, known)


def _in_environment(
    environ: Mapping[str, str], known: Mapping[str, Option]
) -> Iterator[Given | Unknown]:
    names = {name: path for path, option in known.items() for name in (option.env, option.alias)}
    names.pop("", None)
    seen: dict[str, str] = {}
    for name, text in environ.items():
        # Compose files and the like pass on unset variables as empty ones.
        if not name.startswith(PREFIX) or name in RESERVED or not text:
            continue
        if name not in names:
            yield Unknown(name, name, [*names, *RESERVED])
            continue
        path = names[name]
        if path in seen:
            raise ConfigError(f"{seen[path]} and {name} set the same; unset one of them")
        seen[path] = name
        yield Given(path, text, name)


def _in_assignments(
    assignments: Sequence[str], known: Mapping[str, Option]
) -> Iterator[Given | Unknown]:
    for each in assignments:
        path, equals, text = each.partition("=")
        path = path.strip()
        if not equals:
            raise ConfigError(f"--set {path}: write --set section.key=value")
        if path in known:
            yield Given(path, text, f"--set {path}")
        else:
            yield Unknown(path, "--set", known)


def _in_flags(
    flags: Mapping[str, object], known: Mapping[str, Option]
) -> Iterator[Given | Unknown]:
    for path, value in flags.items():
        if value is None:
            continue
        if path in known:
            yield Given(path, value, f"--{known[path].flag}")
        else:
            yield Unknown(path, "flag", known)


def _value(given: Given, option: Option) -> Any:
    if given.as_text and isinstance(given.value, str):
        return values.parse(given.value, option)
    return values.check(given.value, option)


def _build(chosen: Mapping[str, Any]) -> Config:
    sections = {}
    for field in msgspec.structs.fields(Config):
        keys = {
            path.partition(".")[2]: value
            for path, value in chosen.items()
            if path.startswith(f"{field.name}.")
        }
        sections[field.name] = field.type(**keys)
    return Config(**sections)


def _check_together(settings: Settings) -> None:
    model = settings.config.model
    if model.kv_type != "f16" and model.flash_attention == "off":
        source = settings.sources["model.kv_type"]
        raise ConfigError(
            f"{source}: model.kv_type {model.kv_type} needs flash attention, which "
            f"{settings.sources['model.flash_attention']} turns off; set one of them otherwise"
        )


def _sections() -> set[str]:
    return set(Config.__struct_fields__)
