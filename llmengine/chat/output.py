"""Taking a model's answer apart: its thinking, its content and its calls of tools."""

from __future__ import annotations

from collections.abc import Sequence

from llmengine.chat.calls.messages import Headed, Recipients
from llmengine.chat.calls.style import Caller
from llmengine.chat.delta import Delta, joined
from llmengine.chat.formats import Format
from llmengine.chat.reasoning import THINK, Tags
from llmengine.chat.tape import SPACE, Cut, Malformed, Reading, Tape
from llmengine.chat.tools import Tool


class OutputParser:
    """The parts of an answer that comes in pieces.

    Only a tag that opens the answer, or follows a call, begins thinking, so an answer may talk
    about tags. White space around tags and calls belongs to no part. However the text is cut into
    pieces, the deltas joined are the same; what may still turn out to be a tag is held back. A
    call counts once its name and the beginning of its arguments are there; before that, text that
    is no call is content.
    """

    def __init__(
        self,
        prompt: str = "",
        *,
        tags: Tags = THINK,
        format: Format | None = None,
        tools: Sequence[Tool] = (),
        most: int | None = None,
    ) -> None:
        """`prompt` is what the model continues: it may have opened the thinking already.

        Without `tools` nothing is taken for a call, and of what follows the first `most` calls
        nothing is told.
        """
        self.thinking = False  # whether the text so far ends within thinking
        self.calls = 0  # that were told of
        self.complete = False  # whether it has all the calls it may have: nothing else follows
        self._tape = Tape()
        self._tags = tags
        self._format = format
        self._style = format.calls if format and tools else None
        self._caller = Caller(tools, format.new_id) if format else Caller(tools, str)
        self._most = most
        self._content = _Trimmed(hold=bool(tools))
        self._reasoning = _Trimmed(hold=True)
        self._reasoning.cut()
        self._reader = self._answer(tags.opened_by(prompt))
        self._done = False

    def feed(self, text: str) -> Delta:
        return joined(self.read(text))

    def finish(self) -> Delta:
        return joined(self.end())

    def read(self, text: str) -> list[Delta]:
        """What `text` adds, in the order in which it was written; each is of one kind."""
        self._tape.add(text)
        return self._advance()

    def end(self) -> list[Delta]:
        """What was held back, now that the answer has ended."""
        self._tape.ended = True
        last = self._advance()
        content = "" if self.calls else self._content.take()
        return [*last, Delta(reasoning=self._reasoning.take()), Delta(content)]

    def _advance(self) -> list[Delta]:
        found = []
        while not self._done:
            try:
                event = next(self._reader)
            except StopIteration:
                self._done = True
                break
            if event is None:
                break
            found.append(self._trimmed(event))
            self._done = self.complete
        return found

    def _trimmed(self, event: Delta) -> Delta:
        if event.calls:
            self._content.cut()
            kept = [each for each in event.calls if self._most is None or each.index < self._most]
            self.calls = max([self.calls, *(each.index + 1 for each in kept)])
            self.complete = len(kept) < len(event.calls)  # one too many has begun
            return Delta(calls=tuple(kept))
        if event.reasoning:
            self.thinking = True
        elif event.content:
            self.thinking = False
        return Delta(self._content.add(event.content), self._reasoning.add(event.reasoning))

    def _answer(self, thinking: bool) -> Reading[Delta, None]:
        if self._format and self._format.messages:
            yield from self._messages(self._format.messages)
            return
        yield from self._think(thinking)
        bare = self._style is not None and self._style.bare
        while True:
            if bare:
                yield from self._bare()
                if self._ended():
                    return
            mark = yield from self._tape.flow(self._marks, _content)
            if not mark:
                return
            if mark in self._begins:
                yield from self._call(mark)
                if self._ended():
                    return
                yield from self._think(False)
            bare = False

    def _ended(self) -> bool:
        """Note whether the calls that were read are all there may be."""
        self.complete = self._most is not None and self._caller.count >= self._most
        return self.complete

    @property
    def _begins(self) -> tuple[str, ...]:
        return self._style.begins if self._style else ()

    @property
    def _marks(self) -> tuple[str, ...]:
        return (*self._begins, *(self._format.drops if self._format else ()))

    def _think(self, thinking: bool) -> Reading[Delta, None]:
        """Read the thinking that comes next, if it does."""
        tape = self._tape
        if not thinking:
            tape.keep()
            yield from tape.skip_space()
            if not (yield from tape.take(self._tags.open)):
                tape.at = tape.kept
                return
        self.thinking = True
        yield from tape.flow((self._tags.close,), _reasoning)
        self.thinking = False
        self._reasoning.cut()
        self._content.cut()

    def _bare(self) -> Reading[Delta, None]:
        tape = self._tape
        tape.keep()
        yield from tape.skip_space()
        if (yield from tape.starts("{")) and self._style:
            yield from self._guarded(self._style.read(tape, self._caller, ""))
        else:
            tape.at = tape.kept

    def _call(self, mark: str) -> Reading[Delta, None]:
        if self._style:
            yield from self._guarded(self._style.read(self._tape, self._caller, mark))

    def _messages(self, messages: Headed | Recipients) -> Reading[Delta, None]:
        while (yield from self._tape.peek()):
            yield from self._guarded(messages.read(self._tape, self._caller))

    def _guarded(self, reader: Reading[Delta, None]) -> Reading[Delta, None]:
        """What `reader` reports; what it reads in vain is content."""
        before = self._caller.count
        try:
            for event in reader:
                yield event
                if event is not None:
                    self._tape.keep()
        except Malformed:
            yield _content(self._tape.read)
        except Cut:
            self._tape.at = len(self._tape.text)
            if self._caller.count == before:
                yield _content(self._tape.read)


class _Trimmed:
    """Text without the white space at its borders, some of which is told late."""

    def __init__(self, *, hold: bool) -> None:
        self._hold = hold  # whether a border may follow at any time
        self._skip = False
        self._held = ""

    def add(self, text: str) -> str:
        if self._skip:
            text = text.lstrip(SPACE)
            self._skip = not text
        if not self._hold or not text:
            return text
        text = self._held + text
        sure = text.rstrip(SPACE)
        self._held = text[len(sure) :]
        return sure

    def cut(self) -> None:
        """Here is a border: white space before it and after it is dropped."""
        self._held = ""
        self._skip = True

    def take(self) -> str:
        """What is left at the end."""
        held, self._held = self._held, ""
        return held


def _content(text: str) -> Delta:
    return Delta(content=text)


def _reasoning(text: str) -> Delta:
    return Delta(reasoning=text)
