"""Guesses of what one sequence says next, from the grammar that it follows."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict

from msgspec import Struct

from llmengine.engine.guesser import LEAST, Guesser, all_right
from llmengine.engine.sequence import Sequence
from llmengine.llama.matcher import Matcher

_FORCED = 0.95  # chance of a forced token: a model may cut the same text in another way
_NEW = 0.5  # chance of a token that came in a place once
_WEIGHT = 0.2  # of the newest token
_BEHIND_FORCED = -1  # a place: otherwise it is the token before
_KEPT = 4  # tokens for each place

Chances = dict[int, float]  # by token: how often it came where it could


class Continuation(Struct):
    """A token that may come next, of some that may; one without `options` has to."""

    token: int
    chance: float
    options: tuple[int, ...] = ()

    @property
    def forced(self) -> bool:
        return not self.options


class FastForward(Guesser):
    """Walks ahead of the matcher, with a copy that goes along: one of a long answer takes its time.

    A grammar often leaves one way to go on, as with the keys of an object: llguidance's
    fast-forward tokens. Between such runs the choice is a habit of the model, as the blank behind a
    colon: what came in a place before is guessed again. Of several such tokens it is the one that
    came most often where the grammar allowed it.
    """

    def __init__(self, sequence: Sequence, matcher: Matcher) -> None:
        super().__init__(sequence, followed=0)
        self._matcher = matcher
        self._walker: Matcher | None = None  # a copy, behind what was guessed
        self._place = sequence.request.prompt[-1]  # of the next token
        self._ahead: list[Continuation] = []
        self._habits: defaultdict[int, Chances] = defaultdict(dict)  # by place
        self._forced, self._new = _FORCED, _NEW

    def _saw(self, token: int) -> None:
        guess = self._ahead.pop(0) if self._ahead else None
        right = guess is not None and guess.token == token
        forced = guess is not None and guess.forced
        if forced:
            self._forced += _WEIGHT * (right - self._forced)
        else:
            self._learn(token, guess.options if guess else ())
        self._place = _BEHIND_FORCED if forced and right else token
        if not right:
            self._turn(token, len(self._ahead) + (guess is not None))

    def _turn(self, token: int, wrong: int) -> None:
        """Have the walker stand behind `token`, in place of so many wrong guesses."""
        self._ahead.clear()
        walker = self._walker
        if walker and not (walker.turn_back(wrong) and walker.walk([token])):
            self._walker = None

    def _learn(self, token: int, options: tuple[int, ...]) -> None:
        """Take in what came in the place, where `options` could have come."""
        chances = self._habits[self._place]
        for each in {token, *options} & chances.keys():
            right = each == token
            chances[each] += _WEIGHT * (right - chances[each])
            if len(chances) == 1:
                self._new += _WEIGHT * (right - self._new)
        if token not in chances:
            chances[token] = self._new / (len(chances) + 1)
            if len(chances) > _KEPT:
                del chances[min(chances, key=chances.__getitem__)]

    def odds(self, most: int) -> list[float]:
        """The chances that the first 1, 2, ... tokens of a draft are right."""
        if not self._ahead:
            self._walk(most)
        return all_right(guess.chance for guess in self._ahead[:most])

    def _walk(self, most: int) -> None:
        """Guess at most so many tokens, as long as all of them may be right."""
        walker = self._walker = self._walker or self._matcher.copy()
        place, chance = self._place, 1.0
        while len(self._ahead) < most and chance >= LEAST:
            guesses = self._guesses(walker, place, most - len(self._ahead))
            taken = walker.walk([guess.token for guess in guesses])
            if not taken:
                return
            self._ahead += guesses[:taken]
            place = _BEHIND_FORCED if guesses[0].forced else guesses[0].token
            chance *= math.prod(guess.chance for guess in guesses)

    def _guesses(self, walker: Matcher, place: int, most: int) -> list[Continuation]:
        """A run of forced tokens, or one that is a habit; none where nothing is known."""
        if forced := walker.forced:
            return [Continuation(token, self._forced) for token in forced[:most]]
        chances = self._habits.get(place, {})
        options = tuple(token for token in chances if walker.allows(token))
        if not options:
            return []
        likeliest = max(options, key=chances.__getitem__)
        return [Continuation(likeliest, chances[likeliest], options)]

    def draft(self, count: int) -> array[int]:
        return array("i", [guess.token for guess in self._ahead[:count]])
