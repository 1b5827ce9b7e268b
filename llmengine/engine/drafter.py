"""Guesses of what one sequence says next, from what was said before."""

from __future__ import annotations

from array import array

from llmengine.engine.guesser import LEAST, Guesser
from llmengine.engine.lookup import Lookup
from llmengine.engine.sequence import Sequence

# How often the next token of a passage is right, by the tokens of it that were: 1, 2 to 3, 4 to 7
# and so on. With these a sequence begins, and it learns its own.
_EXPECTED = (0.2, 0.3, 0.5, 0.8, 0.9, 0.95)
_DISPUTED = (0.1, 0.1, 0.2, 0.2, 0.3, 0.3)  # where the passage stood before and went on otherwise
_WEIGHT = 0.1  # of the newest token
_PREDICTED = 8  # tokens that were right, one might say, of a passage that the client announced


class Drafter(Guesser):
    """Follows a passage of the text, or of the prediction, that the completion repeats.

    It watches whether the passage goes on as the completion does, drafted or not: what a draft
    would have been worth is known without having tried. Where the passage stood twice and went on
    in two ways, as a record goes on with its own values, less is expected of it.
    """

    def __init__(self, sequence: Sequence) -> None:
        super().__init__(sequence, followed=0)
        prediction = array("i", sequence.request.prediction)
        self._predicted = len(prediction)
        self._lookup = Lookup(prediction + array("i", sequence.request.prompt))
        self._right = {False: list(_EXPECTED), True: list(_DISPUTED)}  # by whether disputed
        self._witness = 0  # where the passage stood before, token by token; 0: nowhere
        self._at, self._run = (0, _PREDICTED) if prediction else self._find()
        self._hits = bytearray(self._predicted)  # tokens of the prediction that came

    @property
    def hits(self) -> int:
        """Tokens of the prediction that the completion has."""
        self.follow()
        return sum(self._hits)

    def _saw(self, token: int) -> None:
        lookup = self._lookup
        if self._run:
            right = lookup.tokens[self._at] == token
            kind, learned = self._kind(self._run), self._right[self._disputed(0)]
            learned[kind] += _WEIGHT * (right - learned[kind])
            self._witness = self._witness + 1 if self._witness and not self._disputed(0) else 0
            if right and self._at < self._predicted:
                self._hits[self._at] = 1
            self._at, self._run = (self._at + 1, self._run + 1) if right else (0, 0)
        lookup.append(token)
        if not self._run:
            self._at, self._run = self._find()

    def _find(self) -> tuple[int, int]:
        at, run = self._lookup.find()
        first = self._lookup.first(at, run) if run else at
        self._witness = first if first < at else 0
        return at, run

    def _disputed(self, ahead: int) -> bool:
        """Whether the passage went on otherwise where it stood before."""
        tokens, at = self._lookup.tokens, self._at + ahead
        known = self._witness and at < len(tokens)
        return bool(known) and tokens[self._witness + ahead] != tokens[at]

    def _kind(self, run: int) -> int:
        return min(run.bit_length(), len(_EXPECTED)) - 1

    def odds(self, most: int) -> list[float]:
        """The chances that the first 1, 2, ... tokens of a draft are right."""
        found: list[float] = []
        if not self._run:
            return found
        tokens = self._lookup.tokens
        chance, agreed = 1.0, True
        for ahead in range(most):
            disputed = agreed and self._disputed(ahead)
            agreed = agreed and not disputed  # behind that they are not side by side any more
            chance *= self._right[disputed][self._kind(self._run + ahead)]
            begins_image = self._at + ahead < len(tokens) and tokens[self._at + ahead] < 0
            if chance < LEAST or begins_image:
                break
            found.append(chance)
        return found

    def draft(self, count: int) -> array[int]:
        """The next `count` tokens of the passage; one that ends here goes round."""
        tokens = self._lookup.tokens
        found = tokens[self._at : self._at + count]
        period = len(tokens) - self._at
        while len(found) < count:
            found.append(found[-period])
        return found
