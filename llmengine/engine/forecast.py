"""What the draft model says that one sequence says next."""

from __future__ import annotations

import math
from array import array
from itertools import repeat

from llmengine.engine.accuracy import Accuracy
from llmengine.engine.guesser import Guesser, all_right
from llmengine.engine.sequence import Sequence

_SURE = 0.3  # chance of all tokens together with which one more is worth drafting


class Forecast(Guesser):
    """The tokens that were drafted and did not come yet, and how often such ones were right.

    It is compared with what comes, computed as a draft or not.
    """

    def __init__(self, sequence: Sequence, general: Accuracy) -> None:
        super().__init__(sequence, sequence.completion_length)
        self.accuracy = Accuracy(general)
        self.known = 0  # tokens of the sequence that the draft model has read
        self.begin()

    def begin(self) -> None:
        """Forget what was drafted before."""
        self.drafted = array("i")
        self._chances: list[float] = []  # that the draft model gave them

    @property
    def tokens(self) -> array[int]:
        """Those of the sequence."""
        return self._sequence.tokens

    @property
    def slot(self) -> int:
        assert self._sequence.slot is not None
        return self._sequence.slot.id

    @property
    def lag(self) -> int:
        """Tokens that are to be read before the next one can be drafted."""
        return max(0, len(self.tokens) - self.known)

    def add(self, token: int, chance: float) -> bool:
        """Take one more token; whether another one is worth asking for."""
        self.drafted.append(token)
        self._chances.append(chance)
        return math.prod(map(self.accuracy.odds, self._chances)) >= _SURE

    def _saw(self, token: int) -> None:
        if not self.drafted:
            return
        right = self.drafted.pop(0) == token
        self.accuracy.learn(self._chances.pop(0), right)
        if not right:
            self.begin()

    def odds(self, most: int) -> list[float]:
        """The chances that the first 1, 2, ... tokens of a draft are right."""
        return all_right(map(self.accuracy.odds, self._chances[:most]))

    def hopes(self, most: int) -> list[float]:
        """The same of tokens that are yet to be drafted."""
        return all_right(repeat(self.accuracy.hope, most))

    def draft(self, count: int) -> array[int]:
        return self.drafted[:count]
