"""Which cached prompt leaves first when room is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Entry(Protocol):
    """What a policy may judge by; all three count the cache's own events, not seconds."""

    created: int
    last_used: int
    uses: int


Policy = Callable[[Entry], tuple[int, ...]]


def lru(entry: Entry) -> tuple[int, ...]:
    """Least recently used first."""
    return (entry.last_used,)


def lfu(entry: Entry) -> tuple[int, ...]:
    """Least often used first; among equals the least recently used."""
    return (entry.uses, entry.last_used)


def fifo(entry: Entry) -> tuple[int, ...]:
    """Oldest first."""
    return (entry.created,)


# Each returns a sort key: the entry with the smallest one leaves.
POLICIES: dict[str, Policy] = {"lru": lru, "lfu": lfu, "fifo": fifo}
