"""Slots: llama.cpp sequence ids and the cells they hold, running or kept for their prefix."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from llmengine.cache.policy import LRU, Policy
from llmengine.engine.cells import CellIds, Cells
from llmengine.engine.keeper import Keeper
from llmengine.engine.pool import Buffer
from llmengine.engine.sequence import Sequence
from llmengine.engine.slot import Match, Memory, Slot, common_prefix
from llmengine.media.spans import position, whole


class Limits(Struct, frozen=True):
    """What idle slots may hold."""

    sequences: int
    ttl: float = 0.0  # seconds that one may go unused; 0: no limit


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
        self.evictions = self.hits = self.hit_tokens = self.misses = 0
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

    @property
    def victims(self) -> list[Slot]:
        """The idle slots, in the order in which the policy gives them up."""
        return [slot for slot in self._policy.victims() if slot.idle]

    @property
    def running_cells(self) -> int:
        """How many cells running slots have, those that they share counted once."""
        unsettled = sum(slot.length - len(slot.cells) for slot in self._slots if slot.owner)
        return unsettled + int(self._held_by_running().sum())

    def match(self, tokens: array[int], scope: str = "") -> Match:
        """The longest prefix of `tokens` that a slot of this scope has or is about to have.

        The last token is never shared: its logits are what the prompt is computed for.
        """
        source, length, coming = None, 0, 0
        for slot in self._slots:
            owner = slot.owner
            if slot.scope != scope or not (owner or self._limits.sequences):
                continue
            if self._expired(slot):
                continue
            have = owner.tokens if owner else slot.tokens
            common = whole(tokens, min(common_prefix(tokens, have), len(tokens) - 1))
            if common <= length:
                continue
            computed = whole(have, min(common, slot.length))
            now = self._memory.usable(slot.id, slot.length, computed)
            if now > length:
                source, length = slot, now
            coming = max(coming, self._coming(slot, common))
        return Match(source, length, max(length, coming))

    def _expired(self, slot: Slot) -> bool:
        ttl = self._limits.ttl
        return bool(ttl) and slot.idle and time.monotonic() - slot.used > ttl

    def _coming(self, slot: Slot, common: int) -> int:
        """How much of a common prefix can be shared once the slot's owner has computed it."""
        owner = slot.owner
        if owner is None or slot.length >= common:
            return 0
        if self._memory.can_truncate:
            return common
        return max((at for at in owner.checkpoints if slot.length < at <= common), default=0)

    def open(self, match: Match, owner: Sequence) -> Slot | None:
        """A slot for `owner` that starts with the matched prefix; None if all are taken."""
        source = match.source if match.length else None
        whole = source is not None and match.length == source.length
        if source and source.idle and whole and not source.checkpoint:
            return self._take(source, owner)
        slot = self._vacant(source)
        if slot and source:
            self._share(source, slot, match.length)
            self._touch(source)
        return self._take(slot, owner) if slot else None

    def count(self, shared: int) -> None:
        """Note that a request began with `shared` cells of another."""
        self.hits += shared > 0
        self.misses += not shared
        self.hit_tokens += shared

    def _share(self, source: Slot, target: Slot, length: int) -> None:
        """Give an empty slot the first cells of another; nothing is copied."""
        self._memory.copy(source.id, target.id, position(source.tokens, length))
        self.settle(source)
        target.length = length
        target.scattered = source.scattered_within(length)
        target.cells = source.cells[:length]
        self.cells.share(_ids(target.cells))

    def checkpoint(self, slot: Slot, *, kept: bool = False) -> None:
        """Hold on to what a running slot has computed so far, for other prompts to start from.

        An idle slot gets the same cells, and a recurrent state that llama.cpp copies when one of
        the two goes on. `kept` says that the prompt cache has this state already.
        """
        tokens = slot.tokens
        if any(each.idle and each.scope == slot.scope and each.tokens == tokens for each in self):
            return
        crowded = self._arena and len(self.idle) >= self._limits.sequences
        target = None if crowded else self._vacant(slot)
        if target:
            self._share(slot, target, slot.length)
            target.hold(tokens)
            target.scope, target.checkpoint, target.kept = slot.scope, True, kept
            self._touch(target)
            self._trim()
        elif self._keeper and not kept:
            self._keeper.save(slot.id, slot.scope, tokens)

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
        slot.used = time.monotonic()
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
            self._memory.truncate(slot.id, owner.position(length))
        slot.length = length
        self.cells.occupy(length)
        return self._take(slot, owner)

    def settle(self, slot: Slot) -> None:
        """Take the ids of the cells that were only counted so far."""
        missing = slot.length - len(slot.cells)
        if missing:
            slot.cells.extend(self.cells.take(missing).tolist())

    def rollback(self, slot: Slot) -> None:
        """Make llama.cpp forget what it computed beyond the slot's tokens."""
        if self._arena:
            self.stale = True
            return
        assert slot.owner is not None
        tokens = slot.owner.tokens
        # Positions do not tell the cells of an image apart: it starts over.
        kept = whole(tokens, slot.length)
        if not self._memory.truncate(slot.id, slot.owner.position(kept)):
            self.clear(slot)
        elif kept < slot.length:
            self._give_tail(slot, kept)
            slot.length = kept

    def release(self, slot: Slot, *, keep: bool) -> None:
        """End a slot's use: keep it idle for its prefix, within the limits, or empty it."""
        slot.retire()
        slot.kept = False
        slot.used = time.monotonic()
        if not keep and not self._arena:
            self.clear(slot)
        self._trim()

    def _trim(self) -> None:
        while len(self.idle) > self._limits.sequences and self.evict(None):
            pass

    def evict(self, keep: Slot | None, *, for_cells: bool = False) -> Slot | None:
        """Empty the idle slot that the policy gives up first, `keep` excepted.

        With `for_cells` only one that has cells of its own: those that running slots share with
        it would stay taken.
        """
        if self._arena:
            return None
        idle = [slot for slot in self.victims if slot is not keep]
        if for_cells:
            running = self._held_by_running()
            idle = [slot for slot in idle if self._has_own(slot, running)]
        victim = idle[0] if idle else None
        if victim:
            self.evictions += 1
            self.save(victim)
            self._policy.removed(victim, evicted=True)
            self.clear(victim)
        return victim

    def shorten(self, match: Match) -> bool:
        """Drop what an idle slot has beyond a prefix that is to be shared; False if nothing."""
        source, length = match.source, match.length
        if self._arena or not source or not source.idle or source.length == length:
            return False
        self.save(source)
        if not self._memory.truncate(source.id, position(source.tokens, length)):
            return False
        self.evictions += 1
        self._give_tail(source, length)
        source.hold(source.tokens[:length])
        return True

    def _give_tail(self, slot: Slot, length: int) -> None:
        """Give back the cells beyond the first `length`."""
        self.settle(slot)
        self.cells.give(_ids(slot.cells[length:]))
        slot.cells = slot.cells[:length]
        slot.scattered = slot.scattered_within(length)

    def _held_by_running(self) -> npt.NDArray[np.bool_]:
        """Which cells a running slot may share with others."""
        held = np.zeros(self.cells.capacity, np.bool_)
        for slot in self._slots:
            if slot.owner:
                held[_ids(slot.cells)] = True
        return held

    def _has_own(self, slot: Slot, running: npt.NDArray[np.bool_]) -> bool:
        return len(slot.cells) < slot.length or not running[_ids(slot.cells)].all()

    def save(self, slot: Slot, *, bounded: bool = True) -> None:
        """Hand an idle slot's state to the prompt cache, which may have it already."""
        slot.kept = True
        if self._keeper and not self._expired(slot):
            tokens = slot.tokens[: slot.compact]
            self._keeper.save(slot.id, slot.scope, tokens, end=slot.end, bounded=bounded)

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
            self.settle(slot)
            self.cells.give(_ids(slot.cells))
        slot.empty()

    def reset(self, *, save: bool = True) -> None:
        """Empty all slots and the memory itself, what idle ones hold saved before if it may."""
        for slot in self._slots:
            if save and slot.idle:
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
        counted = sum(slot.length - len(slot.cells) for slot in self._slots)
        assert len(held) + counted == self.cells.used
        for slot in self._slots:
            assert len(slot.cells) <= slot.length == len(slot.tokens)
            assert slot.owner is None or slot.owner.slot is slot


def _ids(cells: array[int]) -> CellIds:
    return np.array(cells, np.int32)
