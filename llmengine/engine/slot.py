"""One slot of the KV cache, and what several of them work on."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec import Struct

from llmengine.engine.pool import Buffer
from llmengine.media.spans import position, whole

if TYPE_CHECKING:
    from llmengine.engine.sequence import Sequence


class Memory(Protocol):
    """What the slots need of `llmengine.llama.context.Context`. An `end` is a position."""

    @property
    def can_truncate(self) -> bool: ...
    def copy(self, source: int, target: int, end: int) -> None: ...
    def remove(self, sequence: int) -> None: ...
    def truncate(self, sequence: int, end: int) -> bool: ...
    def clear(self) -> None: ...
    def shift(self, sequence: int, start: int, count: int) -> None: ...
    def usable(self, sequence: int, length: int, wanted: int) -> int: ...
    @property
    def scatters(self) -> bool: ...
    def state_size(self, sequence: int, end: int | None = None) -> int: ...
    def save(self, sequence: int, buffer: Buffer, end: int | None = None) -> bool: ...
    def load(self, sequence: int, buffer: Buffer) -> bool: ...


class Slot:
    """One sequence id, and the KV of `length` tokens: its owner's first ones while it has one."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.owner: Sequence | None = None
        self.empty()

    def empty(self) -> None:
        self.scope = self.owner.scope if self.owner else ""
        self.kept = False  # whether its state was handed to the prompt cache
        self.checkpoint = False  # whether it stays as it is for others to start from
        self.length = 0
        self.scattered: int | None = None  # tokens before the first that was computed beside others
        self.cells = array("i")  # fewer than `length`: the ids of the rest are not taken yet
        self.uses = 0
        self.used = 0.0  # when it was last, in seconds of time.monotonic()
        self._tokens = array("i")

    @property
    def tokens(self) -> array[int]:
        return self.owner.tokens[: self.length] if self.owner else self._tokens

    @property
    def compact(self) -> int:
        """How many of the tokens have a state that is copied in few pieces."""
        scattered = self.scattered_within(self.length)
        return self.length if scattered is None else whole(self.tokens, scattered)

    def scattered_within(self, length: int) -> int | None:
        """What `scattered` is of the first tokens."""
        return self.scattered if self.scattered is not None and self.scattered < length else None

    @property
    def end(self) -> int | None:
        """The position up to which its state is worth a copy; None: all of it is."""
        compact = self.compact
        return position(self.tokens, compact) if compact < self.length else None

    @property
    def idle(self) -> bool:
        return self.owner is None and self.length > 0

    def hold(self, tokens: array[int]) -> None:
        """Have these tokens without an owner."""
        self._tokens, self.length = tokens, len(tokens)

    def retire(self) -> None:
        """Go on without the owner."""
        self._tokens = self.tokens
        self.owner = None


class Match(Struct, frozen=True):
    """The best prefix of a prompt that is in the cache."""

    source: Slot | None = None
    length: int = 0  # tokens that can be shared now
    coming: int = 0  # tokens that could be shared once the source's owner has computed them


def common_prefix(one: array[int], other: array[int]) -> int:
    """How many tokens two token arrays begin with in common."""
    length = min(len(one), len(other))
    if not length or one[0] != other[0]:
        return 0
    differs = np.frombuffer(one, np.int32, length) != np.frombuffer(other, np.int32, length)
    first = int(differs.argmax())
    return first if differs[first] else length
