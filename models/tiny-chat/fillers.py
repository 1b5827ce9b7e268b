"""What fills the slots of a phrase, split by hash into training and held-out halves."""

from __future__ import annotations

import hashlib
from random import Random

from wordlists import CITIES, COLOURS, LISTED, NAMES, PETS, WORDS

CONSONANTS = ["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v",
              "w", "z", "br", "dr", "fl", "gr", "kr", "pl", "st", "tr"]
VOWELS = ["a", "e", "i", "o", "u"]
ENDINGS = ["", "", "l", "m", "n", "r", "s", "t", "k", "x"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
HELD_OUT_SHARE = 0.1


def is_held_out(kind: str, value: str) -> bool:
    digest = hashlib.sha256(f"{kind}:{value}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


class Fillers:
    """Draws fillers of one half only, so the held-out set never meets a trained one."""

    def __init__(self, held_out: bool) -> None:
        self.held_out = held_out
        self._lists = {
            kind: [v for v in values if is_held_out(kind, v) == held_out]
            for kind, values in (("name", NAMES), ("word", WORDS), ("city", CITIES),
                                 ("colour", COLOURS), ("pet", PETS))
        }

    def allows(self, kind: str, value: str) -> bool:
        return is_held_out(kind, value) == self.held_out

    def _draw(self, kind: str, make) -> str:
        while True:
            value = make()
            if self.allows(kind, value):
                return value

    def listed(self, rng: Random, kind: str) -> str:
        return rng.choice(self._lists[kind])

    def made_up(self, rng: Random, syllables: int | None = None) -> str:
        def make() -> str:
            count = syllables or rng.choice((2, 2, 3))
            while True:
                parts = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(count)]
                word = "".join(parts) + rng.choice(ENDINGS)
                if word not in LISTED:
                    return word

        return self._draw("made_up", make)

    def word(self, rng: Random) -> str:
        return self.listed(rng, "word") if rng.random() < 0.5 else self.made_up(rng)

    def name(self, rng: Random) -> str:
        if rng.random() < 0.5:
            return self.listed(rng, "name")
        return self.made_up(rng).capitalize()

    def city(self, rng: Random) -> str:
        if rng.random() < 0.5:
            return self.listed(rng, "city")
        return self.made_up(rng).capitalize()

    def code(self, rng: Random) -> str:
        """A random string of 4 to 8 letters and digits."""
        size = rng.randint(4, 8)
        alphabet = rng.choice((LETTERS, LETTERS + "0123456789", LETTERS.upper() + "23456789"))
        return self._draw("code", lambda: "".join(rng.choice(alphabet) for _ in range(size)))

    def number(self, rng: Random) -> str:
        digits = rng.choice((2, 3, 4, 4, 5, 6))
        return self._draw(
            "number", lambda: str(rng.randint(10 ** (digits - 1), 10**digits - 1))
        )

    def key(self, rng: Random) -> str:
        style = rng.random()
        if style < 0.5:
            return self.made_up(rng)
        if style < 0.75:
            head = rng.choice(("key", "item", "id", "node", "slot", "ref"))
            return self._draw(
                "key", lambda: f"{head}-{rng.choice(LETTERS)}{rng.randint(0, 99)}"
            )
        return self._draw("key", lambda: f"{self.word(rng)}-{rng.randint(1, 99)}")

    def value(self, rng: Random) -> str:
        style = rng.random()
        if style < 0.3:
            return self._draw("value", lambda: f"{self.word(rng)}-{rng.randint(1, 99)}")
        if style < 0.6:
            return self.word(rng)
        return self.number(rng) if style < 0.85 else self.code(rng)

    def pair(self, rng: Random, operator: str) -> tuple[int, int]:
        """Two operands of 0..99; for a difference the first is not the smaller one."""
        while True:
            a, b = rng.randint(0, 99), rng.randint(0, 99)
            if operator == "-" and a < b:
                a, b = b, a
            if self.allows("pair", f"{a}{operator}{b}"):
                return a, b
