"""Which idle slots make way for requests that start."""

from __future__ import annotations

from llmengine.engine.keeper import Keeper
from llmengine.engine.slots import Slots

UNFELT = 4096  # cells: a step on a CPU takes as long beside them as with none taken


def vacate(slots: Slots, keeper: Keeper, beyond: int) -> None:
    """Empty the idle slots that the prompt cache has all of, if so many cells are taken.

    Attention passes by all cells up to the last one that is taken, whoever has it: to spare some
    would be of no use. What was not saved yet, as it is in idle moments, stays: to save it now
    would hold up those who run.
    """
    if slots.cells.used <= beyond:
        return
    for slot in slots.idle:
        if keeper.has(slot.scope, slot.tokens):
            slots.clear(slot)
