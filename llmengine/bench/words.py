"""Text of a wanted number of tokens, for whatever tokenizer a server has."""

from __future__ import annotations

import random

from msgspec import Struct

# Of one length and common, so that each is as many tokens as another: one, in most vocabularies.
_LIST = """
act add age ago aid aim air all and any arm art ask bad bag bar bat bed bee big bit boy
bus but buy can cap car cat cow cry cup cut day dig dog dry ear eat egg end eye far few
fit fly for fox fun get got gun hat hen hit hot ice ink jam job joy key kid law leg let
lie log lot low man map may mix mud net new nut odd off oil old one out own pan pay pen
pet pie pig pin pot put rat red rob row run sad saw say sea see set she sit six sky son
sun tax tea ten the tie tin top toy try two use van war way wet who why win yes you zoo
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


def every(chance: random.Random, times: int) -> str:
    """All words so many times each, in any order: a text has as many tokens a word on average."""
    drawn = list(WORDS) * times
    chance.shuffle(drawn)
    return " ".join(drawn)


def code(chance: random.Random, words: int) -> str:
    """Lines of assignments: about so many words, all of which an edit repeats but for one."""
    lines = []
    for number in range(max(1, words // 6)):
        left, right, value = chance.choices(WORDS, k=3)
        lines.append(f"{left}_{number} = {right}({value})")
    return "\n".join(lines)
