"""Room for sequences that go on when their context is full."""

from __future__ import annotations

import numpy as np

from llmengine.engine.sequence import Sequence
from llmengine.engine.slot import Memory
from llmengine.engine.slots import Slots


def slide(sequence: Sequence, slots: Slots, memory: Memory) -> bool:
    """Drop the older half of a full sequence, but for the head that it keeps.

    False if its slot is of no use any more: of the cells that would have to move some are shared
    with another, and a cell has one position for all.
    """
    slot = sequence.slot
    assert slot is not None
    keep, count = sequence.oldest
    slots.settle(slot)
    cells = np.array(slot.cells, np.int32)
    dropped, moved = cells[keep : keep + count], cells[keep + count :]
    sequence.drop(keep, count)
    slot.scope = sequence.scope
    if slots.cells.shared(moved):
        return False
    memory.shift(slot.id, keep, count)
    slots.cells.give(dropped)
    del slot.cells[keep : keep + count]
    slot.length -= count
    if slot.scattered is not None:
        slot.scattered = max(min(slot.scattered, keep), slot.scattered - count)
    sequence.moved = True
    return True
