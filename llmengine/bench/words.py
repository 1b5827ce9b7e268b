"""Text of a wanted number of tokens, for whatever tokenizer a server has."""

from __future__ import annotations

import random

from msgspec import Struct

# Of one length, so that also a vocabulary of single letters gives equally many tokens for each.
_LIST = """
able back bank bear blue boat body book born both busy call calm camp card care case
cast city coal coat cold cook cool copy corn crop dark data deal deep desk door down
draw drop dust each east edge face fact fall farm fast fire fish flat food foot form
four game gate gift girl give glad goal gold good gray
"""
WORDS = _LIST.split()


class Ruler(Struct, frozen=True):
    """What a text of this module comes to."""

    per_word: float = 1.0  # tokens
    around: float = 0.0  # tokens that the chat template adds to one message

    @staticmethod
    def of(short: tuple[int, int], long: tuple[int, int]) -> Ruler:
        """From the words and tokens of two prompts."""
        per_word = (long[1] - short[1]) / (long[0] - short[0])
        if per_word <= 0:  # a server that does not count
            return Ruler()
        return Ruler(per_word, max(0.0, short[1] - short[0] * per_word))

    def words(self, tokens: int, around: bool = True) -> int:
        """How many words take so many tokens, with what is around them; at least one."""
        return max(1, round((tokens - (self.around if around else 0)) / self.per_word))


def text(chance: random.Random, words: int) -> str:
    """Words that no other text begins with, unless by chance."""
    return " ".join(chance.choices(WORDS, k=words))


def code(chance: random.Random, words: int) -> str:
    """Lines of assignments: about so many words, all of which an edit repeats but for one."""
    lines = []
    for number in range(max(1, words // 6)):
        left, right, value = chance.choices(WORDS, k=3)
        lines.append(f"{left}_{number} = {right}({value})")
    return "\n".join(lines)
