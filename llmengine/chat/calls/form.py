"""How a call looks, declared by an example: `<function={name}>{arguments}</function>`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from llmengine.chat.lark import Lark, sequence
from llmengine.chat.tape import Pausing, Tape

_PARTS = re.compile(r"(\{[a-z]+\}|\n)")


class Form:
    """The literals of a form and the slots between them, in their order.

    It is read with any white space, or none, where the form has a line break.
    """

    def __init__(self, form: str) -> None:
        self.parts = tuple(filter(None, _PARTS.split(form)))
        self.slots = tuple(each for each in self.parts if is_slot(each))

    @property
    def literals(self) -> tuple[str, ...]:
        return tuple(each for each in self.parts if each != "\n" and not is_slot(each))

    @property
    def opening(self) -> tuple[str, ...]:
        """The literals before the first slot."""
        return self._until_slot(0)

    def after(self, slot: str) -> tuple[str, ...]:
        """The literals between a slot and the next one."""
        return self._until_slot(self.parts.index(slot) + 1)

    def on_line(self, slot: str) -> bool:
        """Whether a slot stands on lines of its own."""
        at = self.parts.index(slot)
        return at > 0 and self.parts[at - 1] == "\n"

    def fill(self, **values: str) -> str:
        return "".join(values[each[1:-1]] if is_slot(each) else each for each in self.parts)

    def read(self, tape: Tape, slot: str) -> Pausing[str]:
        """What stands in a slot, and over the literals behind it."""
        first, *others = self.after(slot)
        text, _ = yield from tape.until(first)
        for each in others:
            yield from tape.expect(each)
        return text.strip()

    def close(self, tape: Tape) -> Pausing[None]:
        """Read what stands behind the last slot, as far as it is there."""
        for each in self.after(self.slots[-1]):
            yield from tape.skip_space()
            yield from tape.close(each)

    def _until_slot(self, start: int) -> tuple[str, ...]:
        found: list[str] = []
        for part in self.parts[start:]:
            if is_slot(part):
                break
            if part.strip():
                found.append(part)
        return tuple(found)


def expression(lark: Lark, part: str) -> str:
    """An expression for a literal of a form; a line break may be left out."""
    return '"\\n"?' if part == "\n" else lark.text(part)


def filled(lark: Lark, parts: Sequence[str], slots: Mapping[str, str]) -> str:
    """An expression for parts of a form, with those of its slots."""
    return sequence(*(slots[each] if each in slots else expression(lark, each) for each in parts))


def is_slot(part: str) -> bool:
    return part.startswith("{") and part.endswith("}") and len(part) > 2
