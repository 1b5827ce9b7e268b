"""What the Tab key offers: commands, the keys of /set, file names."""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from llmengine.cli.repl.commands import COMMANDS, Command, set_candidates


class CommandCompleter(Completer):
    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            yield from _matching(name, {each.name: each.help for each in COMMANDS.values()})
        elif (command := COMMANDS.get(name)) is not None:
            yield from self._arguments(command, argument, event)

    def _arguments(
        self, command: Command, argument: str, event: CompleteEvent
    ) -> Iterable[Completion]:
        if command.takes == "file":
            yield from self._paths.get_completions(Document(argument, len(argument)), event)
        if command.takes == "setting":
            yield from _matching(argument.rpartition(" ")[2], set_candidates(argument))


def _matching(word: str, candidates: dict[str, str]) -> Iterable[Completion]:
    for name, help in candidates.items():
        if name.startswith(word):
            yield Completion(name, start_position=-len(word), display_meta=help)
