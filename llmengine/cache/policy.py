"""Which cached prompt leaves first when room is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, Protocol, TypeVar


class Used(Hashable, Protocol):
    """What a policy may judge by, beside the order of the calls it gets."""

    uses: int  # how often it was used, the first time included


E = TypeVar("E", bound=Used)


class Policy(Protocol[E]):
    """Keeps the order in which entries leave; constant work per use."""

    def used(self, entry: E) -> None:
        """Note a use of an entry; the first one makes it known."""

    def removed(self, entry: E, *, evicted: bool = False) -> None:
        """Forget an entry; `evicted` says that it left to make room."""

    def victims(self) -> Iterator[E]:
        """The entries in the order they should leave; stop iterating before the next change."""


class _Ordered(Generic[E]):
    def __init__(self) -> None:
        self._order: OrderedDict[E, None] = OrderedDict()

    def removed(self, entry: E, *, evicted: bool = False) -> None:
        self._order.pop(entry, None)

    def victims(self) -> Iterator[E]:
        return iter(self._order)


class FIFO(_Ordered[E]):
    """Oldest first."""

    def used(self, entry: E) -> None:
        self._order.setdefault(entry)


class LRU(_Ordered[E]):
    """Least recently used first."""

    def used(self, entry: E) -> None:
        self._order[entry] = None
        self._order.move_to_end(entry)


class LFU(Generic[E]):
    """Least often used first; among equals the least recently used.

    With dynamic ageing (LFU-DA; Arlitt et al., "Evaluating content management techniques for web
    proxy caches", 1999): an entry's score is its uses plus the score of the last one evicted at
    the time of its use, so that a favourite of the past is overtaken by what is used now.
    """

    def __init__(self) -> None:
        self._floor = 0
        self._scores: dict[E, int] = {}
        self._ranks: dict[int, OrderedDict[E, None]] = {}  # by score

    def used(self, entry: E) -> None:
        self._leave(entry)
        score = self._scores[entry] = self._floor + entry.uses
        self._ranks.setdefault(score, OrderedDict())[entry] = None

    def removed(self, entry: E, *, evicted: bool = False) -> None:
        score = self._leave(entry)
        if evicted:
            self._floor = max(self._floor, score)

    def _leave(self, entry: E) -> int:
        score = self._scores.pop(entry, 0)
        if rank := self._ranks.get(score):
            rank.pop(entry, None)
            if not rank:
                del self._ranks[score]
        return score

    def victims(self) -> Iterator[E]:
        for score in sorted(self._ranks):
            yield from self._ranks[score]


# Each makes a policy for one tier; the first is the default.
POLICIES: dict[str, Callable[[], Policy[Any]]] = {"lru": LRU, "lfu": LFU, "fifo": FIFO}
