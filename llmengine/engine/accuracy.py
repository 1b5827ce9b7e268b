"""How often what a draft model says comes true."""

from __future__ import annotations

import math

# By how sure it is: below 1/2, up to 3/4, up to 7/8 and so on. So it begins, and learns its own.
_EXPECTED = (0.3, 0.6, 0.8, 0.9, 0.95)
_HOPE = 0.7  # that its next token is right, before anything is known
_WEIGHT = 0.1  # of the newest token
_FORGIVEN = 0.005


class Accuracy:
    """Of one sequence; it begins with that of all, which learns with it."""

    def __init__(self, general: Accuracy | None = None) -> None:
        self._general = general
        self.hope: float = general.hope if general else _HOPE  # of a token yet to be drafted
        self._right: list[float] = list(general._right if general else _EXPECTED)

    def odds(self, chance: float) -> float:
        """How often a token is right to which the draft model gives this chance."""
        return self._right[_kind(chance)]

    def learn(self, chance: float, right: bool) -> None:
        kind = _kind(chance)
        self._right[kind] += _WEIGHT * (right - self._right[kind])
        self.hope += _WEIGHT * (right - self.hope)
        if self._general:
            self._general.learn(chance, right)

    def forgive(self) -> None:
        """Hope for a little more while nothing is drafted, so that it is tried again."""
        self.hope += _FORGIVEN * max(0.0, _HOPE - self.hope)
        if self._general:
            self._general.forgive()


def _kind(chance: float) -> int:
    return min(int(-math.log2(max(1 - chance, 1e-9))), len(_EXPECTED) - 1)
