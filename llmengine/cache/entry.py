"""What is stored of a prompt beside its state."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from llmengine.cache.prefix_tree import Tokens
from llmengine.inventory import EntryInfo, Tier

# A serialized llama.cpp sequence; whoever stores or gets one must not write into it.
State = npt.NDArray[np.uint8]


class Entry(Struct, kw_only=True, eq=False):
    """A stored prompt. Times are seconds of its tier's clock."""

    id: str
    scope: str  # only lookups of the same scope see it
    tokens: Tokens
    size: int  # bytes of its state
    created: float
    last_used: float
    expires: float  # infinity: never
    uses: int = 0
    pinned: bool = False  # neither evicted nor expired
    label: str = ""  # what a person calls it

    def succeed(self, replaced: Sequence[Entry]) -> None:
        """Take over how often the entries were used that this one replaces.

        A conversation's next turn is found by them, which counted already.
        """
        self.uses = max(self.uses, *(entry.uses for entry in replaced), 0)

    def info(self, tier: Tier, now: float) -> EntryInfo:
        lasting = self.pinned or self.expires == float("inf")
        return EntryInfo(
            id=self.id,
            scope=self.scope,
            tiers=(tier,),
            tokens=len(self.tokens),
            bytes=self.size,
            uses=self.uses,
            age=now - self.created,
            idle=now - self.last_used,
            expires_in=None if lasting else self.expires - now,
            pinned=self.pinned,
            label=self.label,
        )


class Found(Struct, frozen=True):
    """An entry that shares its first `length` tokens with a prompt."""

    entry: Entry
    length: int
    tier: Tier
    whole: bool  # whether only entries that need not be cut were looked for


def new_state(size: int) -> State:
    """Memory for a state, straight from the kernel, to which it returns with the array.

    malloc would keep what such large arrays leave behind: a sixth on top of the budget.
    """
    # Page by page, as it is written to, takes longer than the copy.
    populate = getattr(mmap, "MAP_POPULATE", 0)
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | populate)
    return np.frombuffer(memory, np.uint8, size)


def entry_id(scope: str, tokens: Tokens) -> str:
    """24 hex digits that are the same in every tier and process."""
    digest = blake2b(scope.encode(), digest_size=12)
    digest.update(b"\0")
    digest.update(tokens.astype("<i4", copy=False).tobytes())
    return digest.hexdigest()


def as_tokens(tokens: Sequence[int] | array[int] | Tokens) -> Tokens:
    """Token ids as int32; an array of that type is viewed, not copied."""
    return np.asarray(tokens, np.int32)
