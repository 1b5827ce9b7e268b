"""The config file: found, read, parsed, and which line a key stands on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli
from msgspec import Struct

from llmengine.errors import ConfigError

VARIABLE = "LLM_ENGINE_CONFIG"
NAME = "config.toml"
MAX_BYTES = 1 << 20

_HEADER = re.compile(r"\s*\[+([^\]#]+)\]")
_KEY = re.compile(r"\s*([\w.\"' -]+?)\s*=")


class ConfigFile(Struct, frozen=True):
    path: Path
    text: str
    tables: dict[str, Any]

    def where(self, key: str) -> str:
        """`config.toml:12`, the line of a key like `server.port` or of its nearest parent."""
        lines = _lines(self.text)
        while key not in lines and "." in key:
            key = key.rpartition(".")[0]
        return f"{self.path}:{lines.get(key, 1)}"


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The config file to read: the one given, named by a variable, here, or the user's."""
    if path is not None:
        return path
    if named := environ.get(VARIABLE):
        return Path(named)
    return next((each for each in (Path(NAME), _users()) if each.exists()), None)


def read(path: Path) -> ConfigFile:
    """Raises ConfigError when `path` is not a readable TOML file of reasonable size."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: the config file cannot be read: {reason}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB; this is not a config file")
    try:
        text = raw.decode("utf-8-sig")  # Windows editors begin a file with a mark
        return ConfigFile(path, text, tomli.loads(text))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply; this is not a config file") from error


def _users() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("llmengine", appauthor=False)) / NAME


def _lines(text: str) -> dict[str, int]:
    """The line of every table and key. Good enough to point at, not a parser."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = _plain(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = _plain(key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def _plain(key: str) -> str:
    return re.sub(r"[\"'\s]", "", key)
