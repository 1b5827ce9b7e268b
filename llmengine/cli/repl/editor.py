"""Reading a message from the terminal: editing, history, several lines."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from llmengine.cli.repl.completion import CommandCompleter
from llmengine.cli.repl.lines import continues, message

PROMPT = "> "


class Editor:
    """`read()` gives one message; EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C."""

    def __init__(self, history: Path) -> None:
        self._session: PromptSession[str] = PromptSession(
            FormattedText([("bold ansigreen", PROMPT)]),
            multiline=True,
            prompt_continuation=lambda width, line, wraps: " " * width,
            history=open_history(history),
            completer=CommandCompleter(),
            complete_while_typing=False,
            key_bindings=_bindings(),
            enable_open_in_editor=True,
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        return message(self._session.prompt())


def open_history(path: Path) -> History:
    """The history in `path`, readable by its user alone; in memory where that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return _History(path)


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        """A message is sent all the same where the disk is full or the folder is gone."""
        with suppress(OSError):
            super().store_string(string)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not continues(buffer.text):
            buffer.validate_and_handle()
            return
        buffer.cursor_position = len(buffer.text)
        if buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
        buffer.newline(copy_margin=False)

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return bindings
