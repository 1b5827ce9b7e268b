"""What a piece of text added to an answer."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class CallDelta(Struct, frozen=True):
    """A new call, which has an id and a name, or more of the arguments of one."""

    index: int
    arguments: str = ""  # JSON text, as the model wrote it
    id: str = ""
    name: str = ""


class Delta(Struct, frozen=True):
    content: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)


def joined(deltas: Iterable[Delta]) -> Delta:
    """All of `deltas` as one; each call in it is whole."""
    content, reasoning = "", ""
    calls: dict[int, CallDelta] = {}
    for each in deltas:
        content += each.content
        reasoning += each.reasoning
        for call in each.calls:
            known = calls.get(call.index, CallDelta(call.index))
            calls[call.index] = CallDelta(
                call.index,
                known.arguments + call.arguments,
                known.id or call.id,
                known.name or call.name,
            )
    return Delta(content, reasoning, tuple(calls.values()))
