"""The loop of `llmengine chat`: read, answer or obey, until the user leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol

from llmengine.chat.delta import Delta
from llmengine.cli.answer import dropped, summary
from llmengine.cli.repl import commands
from llmengine.cli.repl.conversation import Conversation
from llmengine.cli.stdin import check_text
from llmengine.cli.writer import Writer
from llmengine.core import Host, ModelInfo, Stats
from llmengine.errors import ContextLengthExceeded, EngineError

HINT = "Ctrl-D or /exit leaves."


class Screen(Protocol):
    """The terminal, or what a test puts in its place."""

    def read(self) -> str:
        """The next message; EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...

    def say(self, text: str) -> None: ...

    def complain(self, text: str) -> None: ...

    def answering(self) -> AbstractContextManager[Writer]:
        """Where one answer is written, from its beginning to its end."""
        ...


class Repl:
    def __init__(self, host: Host, conversation: Conversation, screen: Screen) -> None:
        self.conversation = conversation
        self.info: ModelInfo = host.info()
        self.stats = False  # whether to tell after each answer what it took
        self.done = False
        self._host = host
        self._screen = screen

    def run(self) -> None:
        self.say(
            f"{self.info.name} ({self.info.description}), context of"
            f" {self.info.max_sequence_length} tokens. /help lists the commands."
        )
        while not self.done:
            try:
                text = self._screen.read()
            except EOFError:
                return
            except KeyboardInterrupt:
                self.say(HINT)
                continue
            self.handle(text)

    def handle(self, text: str) -> None:
        """Obey a command or answer a message; what goes wrong is told, and the loop goes on."""
        try:
            command = commands.split(check_text(text, "the message"))
            if command is not None:
                name, argument = command
                commands.find(name).obey(self, argument)
            elif text.strip():
                self.show(self.conversation.ask(text))
        except ContextLengthExceeded as error:
            self._screen.complain(error.message)
            self.say("/undo takes back the last turn, /clear starts anew.")
        except EngineError as error:
            self._screen.complain(error.message)
        except KeyboardInterrupt:
            self.say("Stopped; the question is not part of the conversation.")

    def show(self, deltas: Iterable[Delta]) -> None:
        """Write an answer as it comes; Ctrl-C stops it."""
        with _stopping(self.conversation.stop), self._screen.answering() as writer:
            for delta in deltas:
                writer.show(delta)
        self._tell_end()

    def say(self, text: str) -> None:
        self._screen.say(text)

    def host_stats(self) -> Stats:
        return self._host.stats()

    def _tell_end(self) -> None:
        answer = self.conversation.answer
        assert answer is not None
        if answer.finish_reason == "cancelled":
            kept = answer.content or answer.reasoning
            self.say("(stopped)" if kept else "(stopped before it began; nothing is kept)")
        if answer.finish_reason == "length":
            self.say(self._length())
        if lost := dropped(answer):
            self.say(lost)
        if self.stats:
            self.say(summary(answer))

    def _length(self) -> str:
        limit = self.conversation.params.max_tokens
        answer = self.conversation.answer
        if answer and limit is not None and answer.usage.completion_tokens >= limit:
            return f"(cut at max_tokens = {limit}; /set max_tokens default lifts it)"
        return "(the context is full: /undo takes back the last turn, /clear starts anew)"


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Have the first Ctrl-C call `stop`, and a second one interrupt as usual."""
    previous = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        stop()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
