"""What of new settings a running server can take over."""

from __future__ import annotations

from msgspec.structs import replace

from llmengine.config import Config
from llmengine.options import Option, options


def taken_over(running: Config, wanted: Config) -> Config:
    """`running`, with the values of `wanted` that may change while a server runs."""
    found = running
    for each in _changed(running, wanted):
        if each.live:
            section = replace(getattr(found, each.section), **{each.key: _value(wanted, each)})
            found = replace(found, **{each.section: section})
    return found


def left_over(running: Config, wanted: Config) -> list[str]:
    """The paths of options that differ and need another start."""
    return [each.path for each in _changed(running, wanted) if not each.live]


def _changed(running: Config, wanted: Config) -> list[Option]:
    return [each for each in options().values() if _value(running, each) != _value(wanted, each)]


def _value(config: Config, option: Option) -> object:
    return getattr(getattr(config, option.section), option.key)
