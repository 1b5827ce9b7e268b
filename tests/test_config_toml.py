"""The generated files equal the declarations."""

from __future__ import annotations

import re
from pathlib import Path

import tomli

from llmengine.config import Config
from llmengine.options import options
from llmengine.settings import load, render

STALE = "run `make generated`"


def test_config_toml_is_up_to_date(root: Path) -> None:
    assert (root / "config.toml").read_text(encoding="utf-8") == render.default_toml(), STALE


def test_config_toml_holds_every_default(root: Path) -> None:
    settings = load(path=root / "config.toml", environ={})
    assert settings.config == Config()
    unset = [path for path, source in settings.sources.items() if source == "default"]
    assert unset == [path for path, option in options().items() if option.default is None]


def test_the_examples_in_comments_are_valid() -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", render.default_toml(), flags=re.MULTILINE)
    path = Path("all.toml")
    path.write_text(text)
    settings = load(path=path, environ={})
    assert "default" not in settings.sources.values()
    assert settings.config.sampling.grammar == 'root ::= "yes" | "no"'


def test_every_key_has_one_comment_and_its_line_is_found(root: Path) -> None:
    lines = (root / "config.toml").read_text(encoding="utf-8").splitlines()
    tables = tomli.loads("\n".join(lines))
    sources = load(path=root / "config.toml", environ={}).sources
    for section, table in tables.items():
        for key in table:
            number = int(sources[f"{section}.{key}"].rpartition(":")[2])
            assert lines[number - 1].startswith(f"{key} = ")
            assert lines[number - 2].startswith("# ")
            assert not lines[number - 3].startswith("# ") or " = " in lines[number - 3]


def test_the_documentation_lists_every_option(root: Path) -> None:
    text = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert text.partition("## All settings\n\n")[2] == render.options_table() + "\n", STALE
