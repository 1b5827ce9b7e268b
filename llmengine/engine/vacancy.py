"""Idle slots that make way for those that run."""

from __future__ import annotations

from llmengine.engine.keeper import Keeper
from llmengine.engine.slots import Slots

_LEAST = 512  # cells
_SHARE = 0.05  # beside as many cells as weights for a value, times this, it takes 2 % longer


def unfelt(parameters: int, attention_values: int) -> int:
    """How many cells lengthen a step on a CPU too little to be told.

    Of a model with so many values in the queries and keys of all layers.
    """
    return max(_LEAST, int(_SHARE * parameters / max(attention_values, 1)))


def vacate(slots: Slots, keeper: Keeper, beyond: int) -> None:
    """Hand idle slots to the prompt cache and empty them, until `beyond` cells are theirs alone.

    Attention passes by all cells up to the last one that is taken, whoever has it. What the cache
    does not take, or not in this step, stays.
    """
    most = slots.running_cells + beyond
    for slot in slots.victims:
        if slots.cells.used <= most:
            return
        if not slot.kept:
            slots.save(slot)
        if keeper.has(slot.scope, slot.tokens):
            slots.clear(slot)
        else:
            slot.kept = False  # an idle moment has more time for it
