"""Slots: llama.cpp sequence ids and the cells they hold, running or kept for their prefix."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from msgspec import Struct

from llmengine.cache.policy import LRU, Policy
from llmengine.engine.cells import CellIds, Cells
from llmengine.engine.keeper import Keeper
from llmengine.engine.pool import Buffer
from llmengine.engine.sequence import Sequence


class Memory(Protocol):
    """What the slots need of `llmengine.llama.context.Context`."""

    @property
    def can_truncate(self) -> bool: ...
    def copy(self, source: int, target: int, length: int) -> None: ...
    def remove(self, sequence: int) -> None: ...
    def truncate(self, sequence: int, length: int) -> bool: ...
    def clear(self) -> None: ...
    def usable(self, sequence: int, length: int, wanted: int) -> int: ...
    def state_size(self, sequence: int) -> int: ...
    def save(self, sequence: int, buffer: Buffer) -> bool: ...
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
        self.length = 0
        self.cells = array("i")  # fewer than `length`: the ids of the rest are not taken yet
        self.uses = 0
        self._tokens = array("i")

    @property
    def tokens(self) -> array[int]:
        return self.owner.tokens[: self.length] if self.owner else self._tokens

    @property
    def idle(self) -> bool:
        return self.owner is None and self.length > 0

    def retire(self) -> None:
        """Go on without the owner."""
        self._tokens = self.tokens
        self.owner = None


class Match(Struct, frozen=True):
    """The best prefix of a prompt that is in the cache."""

    source: Slot | None = None
    length: int = 0  # tokens that can be shared now
    coming: int = 0  # tokens that could be shared once the source's owner has computed them


class Limits(Struct, frozen=True):
    """What idle slots may hold."""

    sequences: int


class Slots:
    """Opens slots for sequences, shares prefixes between them and evicts idle ones.

    A slot only grows or is emptied: a prompt that shares a part of another's prefix gets a slot
    of its own with the same cells in it (`llama_memory_seq_cp` copies nothing).

    With `arena` nothing is removed from the memory but all at once, by `reset`: llama.cpp would
    put a sequence's next tokens into the holes before its first ones, and attention sums, taken
    in the order of the cells, would round differently.
    """

    def __init__(
        self,
        count: int,
        cells: Cells,
        memory: Memory,
        limits: Limits,
        policy: Callable[[], Policy[Slot]] = LRU,
        *,
        keeper: Keeper | None = None,
        arena: bool = False,
    ) -> None:
        self.cells = cells
        self.evictions = 0
        self.stale = False  # an arena with holes in it: reset it before the next step
        self._arena = arena
        self._slots = [Slot(number) for number in range(count)]
        self._memory = memory
        self._limits = limits
        self._policy = policy()
        self._keeper = keeper

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    @property
    def idle(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.idle]

    def match(self, tokens: array[int], scope: str = "") -> Match:
        """The longest prefix of `tokens` that a slot of this scope has or is about to have.

        The last token is never shared: its logits are what the prompt is computed for.
        """
        best = Match()
        for slot in self._slots:
            owner = slot.owner
            if slot.scope != scope or not (owner or self._limits.sequences):
                continue
            have = owner.tokens if owner else slot.tokens
            common = min(common_prefix(tokens, have), len(tokens) - 1)
            if common <= max(best.length, best.coming):
                continue
            now = self._memory.usable(slot.id, slot.length, min(common, slot.length))
            coming = common if owner and self._memory.can_truncate else now
            if coming:
                best = Match(slot, now, coming)
        return best

    def open(self, match: Match, owner: Sequence) -> Slot | None:
        """A slot for `owner` that starts with the matched prefix; None if all are taken."""
        source = match.source if match.length else None
        if source and source.idle and match.length == source.length:
            return self._take(source, owner)
        slot = self._vacant(source)
        if slot and source:
            self._memory.copy(source.id, slot.id, match.length)
            self._settle(source)
            slot.length = match.length
            slot.cells = source.cells[: match.length]
            self.cells.share(_ids(slot.cells))
            self._touch(source)
        return self._take(slot, owner) if slot else None

    def _vacant(self, keep: Slot | None) -> Slot | None:
        for slot in self._slots:
            if slot.owner is None and not slot.length:
                return slot
        return self.evict(keep)

    def _take(self, slot: Slot, owner: Sequence) -> Slot:
        slot.owner, slot.scope = owner, owner.scope
        owner.slot = slot
        return self._touch(slot)

    def _touch(self, slot: Slot) -> Slot:
        slot.uses += 1
        self._policy.used(slot)
        return slot

    def load(self, buffer: Buffer, size: int, length: int, owner: Sequence) -> Slot | None:
        """A slot for `owner` with the first `length` tokens of a saved state of `size` tokens.

        None if it could not be placed: the whole state takes its cells for a moment, before its
        tail is dropped.
        """
        slot = self._vacant(None)
        if slot is None or not self._memory.load(slot.id, buffer):
            return None
        if length < size:
            self._memory.truncate(slot.id, length)
        slot.length = length
        self.cells.occupy(length)
        return self._take(slot, owner)

    def _settle(self, slot: Slot) -> None:
        """Take the ids of the cells that were only counted so far."""
        missing = slot.length - len(slot.cells)
        if missing:
            slot.cells.extend(self.cells.take(missing).tolist())

    def rollback(self, slot: Slot) -> None:
        """Make llama.cpp forget what it computed beyond the slot's tokens."""
        if self._arena:
            self.stale = True
        elif not self._memory.truncate(slot.id, slot.length):
            self.clear(slot)

    def release(self, slot: Slot, *, keep: bool) -> None:
        """End a slot's use: keep it idle for its prefix, within the limits, or empty it."""
        slot.retire()
        slot.kept = False
        if not keep and not self._arena:
            self.clear(slot)
        while len(self.idle) > self._limits.sequences and self.evict(None):
            pass

    def evict(self, keep: Slot | None) -> Slot | None:
        """Empty the idle slot that the policy gives up first, `keep` excepted."""
        if self._arena:
            return None
        order = self._policy.victims()
        victim = next((slot for slot in order if slot.idle and slot is not keep), None)
        if victim:
            self.evictions += 1
            self.save(victim)
            self._policy.removed(victim, evicted=True)
            self.clear(victim)
        return victim

    def save(self, slot: Slot, *, bounded: bool = True) -> None:
        """Hand an idle slot's state to the prompt cache, which may have it already."""
        slot.kept = True
        if self._keeper:
            self._keeper.save(slot.id, slot.scope, slot.tokens, bounded=bounded)

    def save_next(self) -> bool:
        """Save one idle slot that was not saved yet; False if there is none."""
        unsaved = [slot for slot in self.idle if not slot.kept]
        if unsaved:
            self.save(unsaved[0], bounded=False)
        return bool(unsaved)

    def clear(self, slot: Slot) -> None:
        """Empty a slot; one whose owner starts over stays known to the policy."""
        if slot.owner is None:
            self._policy.removed(slot)
        if slot.length:
            self._memory.remove(slot.id)
            self._settle(slot)
            self.cells.give(_ids(slot.cells))
        slot.empty()

    def reset(self) -> None:
        """Empty all slots and the memory itself."""
        for slot in self._slots:
            if slot.idle:
                self.save(slot)
            slot.owner = None
            self._policy.removed(slot)
            slot.empty()
        self._memory.clear()
        self.cells.reset()
        self.stale = False

    def check(self) -> None:
        """Raise AssertionError if the books disagree; for tests and idle moments."""
        held = {cell for slot in self._slots for cell in slot.cells}
        assert len(held) <= self.cells.used
        for slot in self._slots:
            assert len(slot.cells) <= slot.length == len(slot.tokens)
            assert slot.owner is None or slot.owner.slot is slot


def common_prefix(one: array[int], other: array[int]) -> int:
    """How many tokens two token arrays begin with in common."""
    length = min(len(one), len(other))
    if not length or one[0] != other[0]:
        return 0
    differs = np.frombuffer(one, np.int32, length) != np.frombuffer(other, np.int32, length)
    first = int(differs.argmax())
    return first if differs[first] else length


def _ids(cells: array[int]) -> CellIds:
    return np.array(cells, np.int32)
