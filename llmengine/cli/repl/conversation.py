"""A conversation with a model, without a terminal."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmengine.chat.delta import Delta
from llmengine.cli import sampling_values
from llmengine.cli.answer import Answer
from llmengine.cli.attached import content, recognised
from llmengine.cli.client import Client
from llmengine.cli.repl import transcript
from llmengine.cli.repl.transcript import Message, Transcript
from llmengine.core import Media
from llmengine.engine.check import check_media
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams


class Attached(Struct, frozen=True):
    """A file that goes with the next question."""

    name: str
    content: Media | str


class Conversation:
    """Turns of user and assistant, and the settings under which the next one is asked.

    A turn that fails, or is stopped before its first text, leaves the conversation as it was.
    """

    def __init__(self, client: Client, *, params: SamplingParams, system: str = "") -> None:
        self.system = system
        self.think = False
        self.settings: dict[str, Any] = {}  # what was set over `params`
        self.messages: list[Message] = []
        self.attached: list[Attached] = []
        self.answer: Answer | None = None  # the latest one
        self._client = client
        self._defaults = params

    @property
    def params(self) -> SamplingParams:
        return sampling_values.apply(self._defaults, self.settings)

    def ask(self, text: str) -> Iterator[Delta]:
        """The deltas of the answer to `text`; after the last one the turn is in `messages`.

        Raises ContextLengthExceeded where it does not fit, and the answer's own error.
        """
        if (yield from self._turn(self.messages, self._question(text))):
            self.attached = []

    def attach(self, path: Path) -> Attached:
        """Have a file go with the next question, until one with it is answered.

        Raises InvalidRequest for one that the model cannot take.
        """
        found = recognised(path)
        if isinstance(found, Media):
            check_media(found, self._client.info)
        self.attached.append(Attached(path.name, found))
        return self.attached[-1]

    def retry(self) -> Iterator[Delta]:
        """The last question asked again; its old answer stays until the new one is there."""
        *before, question, _ = self._turns("retry")
        return self._turn(before, question)

    def undo(self) -> str:
        """Take the last turn back; returns its question."""
        *before, question, _ = self._turns("undo")
        self.messages = before
        return question.content

    def clear(self) -> None:
        """Forget the turns, and what was attached; system prompt and settings stay."""
        self.messages, self.attached = [], []

    def stop(self) -> None:
        """End the answer that is on its way; fit for a signal handler."""
        if self.answer is not None:
            self.answer.stop()

    def set(self, key: str, text: str) -> Any:
        """Set a sampling parameter from its text, or back to its default with `default`."""
        if text == "default":
            sampling_values.option(key)
            self.settings.pop(key, None)
            return getattr(self.params, key)
        self.settings[key] = sampling_values.parse(key, text)
        return self.settings[key]

    def save(self, path: Path) -> None:
        transcript.write(
            path,
            Transcript(
                format="llmengine-conversation",
                version=1,
                model=self._client.info.name,
                system=self.system,
                settings=self.settings,
                think=self.think,
                messages=tuple(self.messages),
            ),
        )

    def load(self, path: Path) -> None:
        """Become the saved conversation; where that fails nothing changes."""
        saved = transcript.read(path)
        try:
            settings = sampling_values.check(saved.settings)
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}: settings: {error.message}") from error
        self.system = saved.system
        self.settings = settings
        self.think = saved.think
        self.messages = list(saved.messages)

    def _question(self, text: str) -> Message:
        texts = [
            f"{each.name}:\n\n{each.content}\n\n"
            for each in self.attached
            if isinstance(each.content, str)
        ]
        files = [each.content for each in self.attached if isinstance(each.content, Media)]
        return Message("user", "".join([*texts, text]), files=tuple(files))

    def _turn(self, before: list[Message], question: Message) -> Generator[Delta, None, bool]:
        """The deltas of an answer; returns whether the turn was kept."""
        asked = [*before, question]
        answer = self.answer = self._client.chat(
            self._plain(asked), params=self.params, think=self.think
        )
        yield from answer
        stopped = answer.finish_reason == "cancelled"
        kept = not stopped or bool(answer.content or answer.reasoning)
        if kept:
            self.messages = [
                *asked,
                Message("assistant", answer.content, answer.reasoning, stopped),
            ]
        return kept

    def _turns(self, wish: str) -> list[Message]:
        if not self.messages:
            raise InvalidRequest(f"nothing to {wish}: the conversation is empty")
        return self.messages

    def _plain(self, messages: list[Message]) -> list[dict[str, Any]]:
        plain = [_plain(message) for message in messages]
        return [{"role": "system", "content": self.system}, *plain] if self.system else plain


def _plain(message: Message) -> dict[str, Any]:
    plain = {"role": message.role, "content": content(message.content, message.files)}
    # Templates of thinking models read this name, and decide what of it the next turn sees.
    return plain | {"reasoning_content": message.reasoning} if message.reasoning else plain
