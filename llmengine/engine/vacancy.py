"""Which idle slots make way for requests that start."""

from __future__ import annotations

from llmengine.engine.keeper import Keeper
from llmengine.engine.slot import Slot
from llmengine.engine.slots import Slots


def vacate(slots: Slots, keeper: Keeper) -> None:
    """Leave what idle slots hold to the prompt cache.

    Attention passes by all cells up to the last one that is taken, whoever has it.
    """
    for slot in slots.idle:
        own = slots.own_cells(slot)
        if own and (slots.expired(slot) or _stored(slot, own, keeper)):
            slots.clear(slot)


def _stored(slot: Slot, own: int, keeper: Keeper) -> bool:
    """Whether the cache has what the slot holds, of which `own` cells are no other slot's."""
    if keeper.has(slot.scope, slot.tokens):
        return True
    # Stored alone, one that shares most of its cells would be larger than the room it makes.
    return 2 * own >= slot.length and keeper.save(slot.id, slot.scope, slot.tokens)
