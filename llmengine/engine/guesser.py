"""Who guesses what one sequence says next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable
from itertools import accumulate, takewhile
from operator import mul

from llmengine.engine.sequence import Sequence

LEAST = 0.1  # chance below which a token is not worth a thought


def all_right(chances: Iterable[float]) -> list[float]:
    """From the chances of single tokens, those that the first 1, 2, ... of them are all right.

    As long as they are worth a thought.
    """
    return list(takewhile(lambda chance: chance >= LEAST, accumulate(chances, mul)))


class Guesser(ABC):
    """Sees every token that a sequence gets, whether it was guessed or not."""

    def __init__(self, sequence: Sequence, followed: int) -> None:
        """It begins behind `followed` tokens of the completion."""
        self._sequence = sequence
        self._followed = followed

    def follow(self) -> None:
        """Take in the tokens that the sequence got since the last time."""
        new = self._sequence.completion_length - self._followed
        self._followed += new
        for token in self._sequence.tokens[-new:] if new else ():
            self._saw(token)

    @abstractmethod
    def _saw(self, token: int) -> None: ...

    @abstractmethod
    def odds(self, most: int) -> list[float]:
        """The chances that the first 1, 2, ... tokens of a draft are right, `most` of them."""

    @abstractmethod
    def draft(self, count: int) -> array[int]:
        """Its next `count` tokens."""
