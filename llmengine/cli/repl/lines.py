"""When a message goes on in the next line: after a backslash, and inside triple quotes."""

from __future__ import annotations

QUOTES = '"""'


def continues(text: str) -> bool:
    """Whether Enter at the end of `text` begins a new line of the same message."""
    if text.lstrip().startswith(QUOTES):
        return text.count(QUOTES) % 2 == 1
    return text.endswith("\\")


def message(text: str) -> str:
    """The message that `text` means: what stands between triple quotes, or all of it."""
    stripped = text.strip()
    quoted = stripped.startswith(QUOTES) and stripped.endswith(QUOTES)
    if not quoted or stripped.count(QUOTES) != 2:
        return text
    return stripped[len(QUOTES) : -len(QUOTES)].removeprefix("\n").removesuffix("\n")
