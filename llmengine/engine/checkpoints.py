"""Where the state of a prompt is worth keeping, for models that can't drop a tail later."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

MOST = 8  # checkpoints at regular distances that one prompt gets


class Checkpoints(Struct, frozen=True):
    """Chooses the lengths of a prompt at which its state is kept, in tokens."""

    every: int  # distance of the regular ones; 0: none
    least: int  # the shortest prefix that is worth a state, and the shortest gap between two

    def of(self, length: int, boundaries: Iterable[int]) -> tuple[int, ...]:
        """Those of a prompt of `length` tokens: its boundaries, its end, and points in between.

        The end is before the last token, whose logits every prompt has to compute: there it
        serves the same prompt again as well as its continuations.
        """
        end = length - 1
        kept = {min(each, end) for each in boundaries}
        for point in (end, *self._regular(end)):
            if all(abs(point - each) >= self.least for each in kept):
                kept.add(point)
        return tuple(sorted(each for each in kept if each >= self.least))

    def _regular(self, end: int) -> range:
        """Multiples of `every`, or of a multiple of it where those would be too many."""
        if not self.every:
            return range(0)
        step = self.every * max(1, -(-end // (self.every * MOST)))
        return range(step, end, step)
