"""Markdown drawn while it comes: what is final is written once, the rest anew."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from llmengine.chat.delta import Delta
from llmengine.cli.repl import markdown
from llmengine.cli.repl.markdown import MarkdownWriter, blocks

ANSWER = """\
# Title

A paragraph of several words that is longer than the window is wide.

1. first
2. second

```python
def f():
    return 1

print(f())
```

| a | b |
|---|---|
| 1 | 2 |

The end."""
SHOWN = """\
Title

A paragraph of several words that is
longer than the window is wide.

 1 first
 2 second

def f():
    return 1

print(f())

 a  b
 ────
 1  2

The end."""


class Screen:
    """What a terminal makes of the few control codes that are used, and how often it wrote."""

    def __init__(self, height: int = 50) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file, width=40, height=height, force_terminal=True, color_system=None
        )
        self.height = height

    @property
    def text(self) -> str:
        lines, row = [""], 0
        for part in re.split(r"(\r|\n|\x1b\[[?\d]*[a-zA-Z])", self.file.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part == "\x1b[1A":
                row -= 1
                # What has scrolled off cannot be reached any more.
                assert row > len(lines) - 1 - self.height
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part and part[0] not in "\r\x1b":
                lines[row] += part
        return "\n".join(line.rstrip() for line in lines).rstrip("\n")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw after every piece."""
    monkeypatch.setattr(markdown, "FRAME", 0.0)
    monkeypatch.setattr(markdown.time, "monotonic", lambda: 0.0)


def show(screen: Screen, text: str, step: int) -> None:
    writer = MarkdownWriter(screen.console)
    for at in range(0, len(text), step):
        writer.show(Delta(text[at : at + step]))
    writer.end()


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
@pytest.mark.parametrize("height", [4, 50])
def test_however_it_comes_it_ends_the_same(step, height):
    screen = Screen(height)
    show(screen, ANSWER, step)
    assert screen.text == SHOWN


def test_the_cursor_is_shown_again():
    screen = Screen()
    show(screen, "hi", 1)
    assert screen.file.getvalue().endswith("\x1b[?25h")


def test_what_has_ended_is_written_once(monkeypatch):
    screen = Screen()
    writer = MarkdownWriter(screen.console)
    writer.show(Delta("first block\n\nsecond"))
    before = len(screen.file.getvalue())
    writer.show(Delta(" block grows"))
    assert "first" in screen.file.getvalue()[:before]
    assert "first" not in screen.file.getvalue()[before:]
    writer.end()


def test_an_open_block_taller_than_the_screen_shows_its_end():
    screen = Screen(height=5)
    writer = MarkdownWriter(screen.console)
    writer.show(Delta("```\n" + "\n".join(map(str, range(100)))))
    assert screen.text == "96\n97\n98\n99"
    writer.end()
    assert screen.text == "\n".join(map(str, range(100)))


def test_thinking_stands_above_the_answer():
    screen = Screen()
    writer = MarkdownWriter(screen.console)
    for delta in (Delta(reasoning="One.\n\nTw"), Delta(reasoning="o.\n"), Delta("**Four.**")):
        writer.show(delta)
    writer.end()
    assert screen.text == "One.\n\nTwo.\n\nFour."


def test_control_codes_of_the_model_do_not_reach_the_terminal():
    screen = Screen()
    show(screen, "a\x1b[2Jb\x9bc", 100)
    assert "\x1b[2J" not in screen.file.getvalue()
    assert screen.text == "a␛[2Jb\ufffdc"


@pytest.mark.parametrize(
    "parts",
    [
        [""],
        ["one"],
        ["one\n\n"],
        ["one\n\n", "two"],
        ["\n\none\n\n", "two"],
        ["- a\n\n- b\n\n  more of b"],
        ["```\na\n\nb"],
        ["one\n", "```\na"],
        ["> a\n> b\n\n", "1. c\n2. d\n", "# e\n", "---\n", "f\u2028g"],
        ["```\r\na\x0cb\n```\n\n", "c"],
    ],
)
def test_blocks(parts):
    assert blocks("".join(parts)) == parts
