"""Words in alphabetical order (first letters differ) and numbers by size."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

WORDS = ("sort these words: {x}", "sort alphabetically: {x}", "put these words in order: {x}",
         "order these words alphabetically: {x}", "sort the words {x}", "sort: {x}",
         "arrange in alphabetical order: {x}", "put in alphabetical order: {x}",
         "alphabetical order of {x}", "sort this list: {x}", "order these words: {x}")
PIPED = ("sort these words", "order these words", "put these words in order", "sort this list",
         "sort alphabetically", "order these words alphabetically")
NUMBERS = ("sort these numbers: {x}", "sort: {x}", "put these numbers in order: {x}",
           "order these numbers by size: {x}", "sort the numbers {x}", "sort this list: {x}",
           "arrange from small to large: {x}", "order from smallest to largest: {x}")
DOWN = ("sort from large to small: {x}", "order from largest to smallest: {x}")
EXTREMES = (("which is the largest of {x}?", max), ("what is the biggest number of {x}?", max),
            ("which is the smallest of {x}?", min), ("what is the smallest number of {x}?", min))


def draw_words(rng: Random, fillers: Fillers) -> list[str]:
    chosen: dict[str, str] = {}
    count = rng.choice((3, 3, 4, 4, 5))
    while len(chosen) < count:
        word = fillers.listed(rng, "word") if rng.random() < 0.8 else fillers.made_up(rng, 2)
        chosen.setdefault(word[0], word)
    return list(chosen.values())


def words(rng: Random, fillers: Fillers) -> Conversation:
    chosen = draw_words(rng, fillers)
    if rng.random() < 0.15:  # as text piped into a command comes
        phrase = "{x}\n\n" + style(rng, rng.choice(PIPED), request=True)
    else:
        phrase = style(rng, rng.choice(WORDS), request=True)
    return ask(phrase.format(x=", ".join(chosen)), ", ".join(sorted(chosen)) + ".")


def numbers(rng: Random, fillers: Fillers) -> Conversation:
    while True:
        chosen = rng.sample(range(100), rng.choice((3, 3, 4, 4, 5)))
        if fillers.allows("numbers", str(sorted(chosen))):
            break
    listed = ", ".join(map(str, chosen))
    draw = rng.random()
    if draw < 0.2:
        phrase, pick = rng.choice(EXTREMES)
        return ask(style(rng, phrase).format(x=listed), f"{pick(chosen)}.")
    down = draw < 0.35
    phrase = style(rng, rng.choice(DOWN if down else NUMBERS), request=True)
    answer = ", ".join(map(str, sorted(chosen, reverse=down))) + "."
    return ask(phrase.format(x=listed), answer)
