"""What is stored of a prompt beside its state."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from llmengine.cache.prefix_tree import Tokens

# A serialized llama.cpp sequence; whoever stores or gets one must not write into it.
State = npt.NDArray[np.uint8]
Tier = Literal["memory", "disk"]


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


class Found(Struct, frozen=True):
    """An entry that shares its first `length` tokens with a prompt."""

    entry: Entry
    length: int
    tier: Tier
    whole: bool  # whether only entries that need not be cut were looked for


class EntryInfo(Struct, frozen=True, kw_only=True):
    """An entry as a person sees it; seconds up to now."""

    id: str
    scope: str
    tiers: tuple[Tier, ...]
    tokens: int
    bytes: int
    uses: int
    age: float
    idle: float
    expires_in: float | None  # None: never
    pinned: bool
    label: str

    @staticmethod
    def of(entry: Entry, tier: Tier, now: float) -> EntryInfo:
        lasting = entry.pinned or entry.expires == float("inf")
        return EntryInfo(
            id=entry.id,
            scope=entry.scope,
            tiers=(tier,),
            tokens=len(entry.tokens),
            bytes=entry.size,
            uses=entry.uses,
            age=now - entry.created,
            idle=now - entry.last_used,
            expires_in=None if lasting else entry.expires - now,
            pinned=entry.pinned,
            label=entry.label,
        )

    def merged(self, other: EntryInfo) -> EntryInfo:
        """What is known of one entry from two tiers."""
        ends = [each.expires_in for each in (self, other) if each.expires_in is not None]
        return replace(
            self,
            tiers=self.tiers + other.tiers,
            uses=max(self.uses, other.uses),
            age=max(self.age, other.age),
            idle=min(self.idle, other.idle),
            expires_in=max(ends) if len(ends) == 2 else None,
            pinned=self.pinned or other.pinned,
            label=self.label or other.label,
        )


def entry_id(scope: str, tokens: Tokens) -> str:
    """24 hex digits that are the same in every tier and process."""
    digest = blake2b(scope.encode(), digest_size=12)
    digest.update(b"\0")
    digest.update(tokens.astype("<i4", copy=False).tobytes())
    return digest.hexdigest()


def as_tokens(tokens: Sequence[int] | array[int] | Tokens) -> Tokens:
    """Token ids as int32; an array of that type is viewed, not copied."""
    return np.asarray(tokens, np.int32)
