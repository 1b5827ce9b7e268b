"""What every way of writing calls has in common."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from llmengine.chat.delta import CallDelta, Delta
from llmengine.chat.lark import Lark
from llmengine.chat.tape import Malformed, Reading, Tape
from llmengine.chat.tools import Tool

NAME = re.compile(r"[\w.:/\-]{1,256}")


class Call(Struct, frozen=True):
    """A call in the history of a conversation."""

    name: str
    arguments: dict[str, Any]
    id: str


class CallStyle(Protocol):
    @property
    def begins(self) -> tuple[str, ...]:
        """What a call begins with in the middle of a text."""
        ...

    @property
    def bare(self) -> bool:
        """Whether a call may also begin an answer without any mark."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """All that may be control tokens of the vocabulary."""
        ...

    def read(self, tape: Tape, caller: Caller, begin: str) -> Reading[Delta, None]:
        """Read the calls that follow `begin`, which is read already.

        Raises Malformed and Cut; what was reported before stays.
        """
        ...

    def write(self, calls: Sequence[Call]) -> str:
        """The calls as the model writes them."""
        ...

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, several: bool) -> str:
        """An expression for one call of `tools`, or `several`, whose arguments fit their schema.

        Raises InvalidRequest for a schema that this style cannot be held to.
        """
        ...

    def rest(self, lark: Lark, tools: Sequence[Tool], begin: str) -> str:
        """An expression for what follows one of `begins` in such calls."""
        ...


class Caller:
    """Numbers and names the calls of one answer."""

    def __init__(self, tools: Sequence[Tool], new_id: Callable[[], str]) -> None:
        self.tools = {each.name: each for each in tools}
        self.count = 0
        self._new_id = new_id

    def tool(self, name: str) -> Tool:
        return self.tools.get(name) or Tool(name, {})

    def begin(self, name: str, call_id: str = "") -> Delta:
        """Raises Malformed where `name` cannot be one."""
        if not NAME.fullmatch(name):
            raise Malformed
        self.count += 1
        delta = CallDelta(self.count - 1, id=call_id or self._new_id(), name=name)
        return Delta(calls=(delta,))

    def arguments(self, text: str) -> Delta:
        return Delta(calls=(CallDelta(self.count - 1, text),))


def openai_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def short_id() -> str:
    """Nine letters and digits: what Mistral's templates demand."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
