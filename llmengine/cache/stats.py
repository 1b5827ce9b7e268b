"""What a tier counts."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Reason = Literal["size", "count", "ttl", "replaced", "corrupt", "removed"]


class Counts(Struct, kw_only=True):
    """Events since the start."""

    hits: int = 0  # states handed out
    misses: int = 0  # lookups without a result
    hit_tokens: int = 0
    writes: int = 0
    write_seconds: float = 0.0
    read_seconds: float = 0.0
    corrupt: int = 0  # entries that did not read back right
    dropped: int = 0  # writes given up because too much was waiting
    failures: int = 0  # errors of the file system or the database
    evictions: dict[Reason, int] = {}


class TierStats(Counts, kw_only=True):
    """Those, and what is held now."""

    entries: int
    bytes: int
    pinned: int
    max_entries: int
    max_bytes: int
    queued_bytes: int = 0  # waiting to be written
