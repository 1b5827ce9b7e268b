"""Options as text: the default `config.toml` and the table of the documentation."""

from __future__ import annotations

from itertools import groupby

from llmengine.options import Option, options
from llmengine.settings import values

_HEAD = """\
# Settings of llmengine. Every key stands here with its default; delete what you do not change.
# An environment variable overrides this file, a flag overrides both:
# LLM_ENGINE_SECTION__KEY, --set section.key=value.
"""


def default_toml() -> str:
    """A config file with every key, its default and one comment."""
    sections = groupby(options().values(), key=lambda option: option.section)
    blocks = ["\n".join([f"[{name}]", *map(_entry, group)]) for name, group in sections]
    return "\n".join([_HEAD, *(f"{block}\n" for block in blocks)])


def options_table() -> str:
    """A Markdown table of every option."""
    rows = [_row(option) for option in options().values()]
    return "\n".join(
        ["| Key | Value | Default | Variable | Meaning |", "|---|---|---|---|---|", *rows]
    )


def _entry(option: Option) -> str:
    comment = f"# {option.description} ({values.describe(option)})"
    if option.default is None:
        # TOML has no null: an option without a default is shown with an example of its kind.
        return f"{comment}\n# {option.key} = {_EXAMPLES[option.path]}"
    return f"{comment}\n{option.key} = {values.to_toml(option.default)}"


_EXAMPLES = {
    "sampling.seed": "42",
    "sampling.max_tokens": "512",
    "sampling.logprobs": "5",
    "sampling.thinking_budget": "1024",
    "sampling.grammar": '\'root ::= "yes" | "no"\'',
}


def _row(option: Option) -> str:
    variable = option.alias or option.env
    default = values.to_toml(option.default)
    cells = [
        f"`{option.path}`",
        values.describe(option),
        "" if option.default is None else f"`{default}`",
        f"`{variable}`",
        option.description,
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
