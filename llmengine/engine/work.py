"""What a step computes of one sequence."""

from __future__ import annotations

from array import array

from msgspec import Struct

from llmengine.engine.sequence import Sequence

NOTHING = array("i")


class Work(Struct):
    """A sequence's part in a step: its next `count` tokens, and a draft of what may follow."""

    sequence: Sequence
    count: int
    decoding: bool
    draft: array[int] = NOTHING  # guessed tokens: what is right of them saves steps

    @property
    def output(self) -> bool:
        """Whether the sequence's next token is sampled after the step."""
        return self.count == self.sequence.pending and not self.sequence.request.warm

    @property
    def rows(self) -> int:
        return self.count + len(self.draft)
