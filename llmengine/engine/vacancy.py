"""Which idle slots make way for requests that start."""

from __future__ import annotations

from llmengine.engine.keeper import Keeper
from llmengine.engine.slots import Slots


def vacate(slots: Slots, keeper: Keeper) -> None:
    """Empty idle slots of which the prompt cache has all, as it does after an idle moment.

    Attention passes by all cells up to the last one that is taken, whoever has it. The others
    stay: to save them now would hold up those who run.
    """
    for slot in slots.idle:
        if slots.expired(slot) or (slots.own_cells(slot) and keeper.has(slot.scope, slot.tokens)):
            slots.clear(slot)
