"""What a draft model has read: the tokens in each sequence of its context."""

from __future__ import annotations

from array import array

from llmengine.engine.slot import common_prefix
from llmengine.llama.context import Context, Logits, Status

_NEAR = 32  # tokens that are computed rather than looked for in other sequences


class Readings:
    """A sequence has the number of the slot that it reads along with.

    What it holds is looked at when it is wanted and not before. Tokens that were dropped, another
    request in the slot and drafts that were wrong are all the same then: only a prefix is right.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[int, array[int]] = {}  # by slot, the last one used at the end
        self._added: dict[int, array[int]] = {}  # in the batch

    def known(self, slot: int, tokens: array[int]) -> int:
        """How many of `tokens` need not be computed."""
        return self._nearest(slot, tokens)[1]

    def _nearest(self, slot: int, tokens: array[int]) -> tuple[int, int]:
        """The sequence that has most of what `tokens` begin with, and how many those are.

        The last one never counts: its logits are what all is for.
        """
        last = len(tokens) - 1
        nearest, most = slot, min(common_prefix(tokens, self._held.get(slot, array("i"))), last)
        if last - most > _NEAR:
            for other, held in self._held.items():
                length = min(common_prefix(tokens, held), last)
                if length > most + _NEAR:
                    nearest, most = other, length
        return nearest, most

    # A batch

    def begin(self) -> None:
        self._context.batch.clear()
        self._added = {}

    @property
    def sequences(self) -> int:
        """Those in the batch."""
        return len(self._added)

    @property
    def rows(self) -> int:
        return self._context.batch.rows

    def read(self, slot: int, tokens: array[int], room: int) -> int:
        """Add what is missing of `tokens`, `room` at most; how many the sequence has then.

        There is an output if these are all.
        """
        start = self._align(slot, tokens)
        missing = tokens[start : start + room]
        end = start + len(missing)
        self._context.batch.add(slot, start, missing, end == len(tokens))
        self._added[slot] = missing
        return end

    def _align(self, slot: int, tokens: array[int]) -> int:
        """Have no more in a sequence than `tokens` begin with; how many those are."""
        nearest, length = self._nearest(slot, tokens)
        held = self._held.pop(slot, array("i"))
        if nearest != slot:
            self._context.remove(slot)
            self._context.copy(nearest, slot, length)
            held = self._held[nearest][:length]
        elif length < len(held):
            self._context.truncate(slot, length)
            del held[length:]
        self._held[slot] = held
        return length

    def write(self, slot: int, token: int) -> None:
        """Add one more token to a sequence that was read."""
        self._context.batch.add_row(slot, len(self._held[slot]), token)
        self._added[slot] = array("i", [token])

    def compute(self) -> Status:
        """Compute the batch. For want of room, what was not used for longest is dropped."""
        status = self._context.decode()
        while status is Status.NO_ROOM and self._drop_oldest():
            status = self._context.decode()
        for slot, tokens in self._added.items():
            if status is Status.OK:
                self._held[slot] += tokens
            else:
                self._context.truncate(slot, len(self._held[slot]))
        return status

    def _drop_oldest(self) -> bool:
        slot = next((each for each in self._held if each not in self._added), None)
        if slot is None:
            return False
        del self._held[slot]
        self._context.remove(slot)
        return True

    def logits(self) -> list[Logits]:
        """Of each output of the batch."""
        outputs = self._context.batch.outputs
        return self._context.logits(outputs) if outputs else []

    def reset(self) -> None:
        """Forget all, as when nobody knows any more what the context holds."""
        self._context.clear()
        self._held.clear()
