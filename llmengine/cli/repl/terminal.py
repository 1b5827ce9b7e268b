"""The terminal as the REPL's screen: answers go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from rich.console import Console

from llmengine.cli.repl.editor import Editor
from llmengine.cli.repl.markdown import MarkdownWriter
from llmengine.cli.writer import PlainWriter, Writer, harmless


class Terminal:
    """See `llmengine.cli.repl.loop.Screen`."""

    def __init__(self) -> None:
        self._out = Console(highlight=False)
        self._notes = Console(stderr=True, highlight=False)
        self._editor = Editor(history_path())
        self._answered = False

    def read(self) -> str:
        if self._answered:
            self._notes.print()  # an empty line between the turns
        self._answered = False
        return self._editor.read()

    def say(self, text: str) -> None:
        self._notes.print(harmless(text), style="dim", markup=False)

    def complain(self, text: str) -> None:
        self._notes.print(harmless(text), style="red", markup=False)

    @contextmanager
    def answering(self) -> Iterator[Writer]:
        plain = not self._out.is_terminal or self._out.is_dumb_terminal
        with _without_echo():
            writer = PlainWriter(sys.stdout, sys.stderr) if plain else MarkdownWriter(self._out)
            try:
                yield writer
            finally:
                writer.end()
                self._answered = True


@contextmanager
def _without_echo() -> Iterator[None]:
    """Keep keys that are typed too early, and ^C, out of the text."""
    before = termios.tcgetattr(sys.stdin)
    silent = termios.tcgetattr(sys.stdin)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def history_path() -> Path:
    return Path(platformdirs.user_state_dir("llmengine", appauthor=False)) / "history"
