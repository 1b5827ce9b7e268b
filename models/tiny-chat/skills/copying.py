"""Saying a given string again, exactly; and the first or last line of a list."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

REPEATS = ("repeat: {x}", "repeat {x}", "say {x}", 'say "{x}"', 'repeat "{x}"', "echo {x}",
           "repeat after me: {x}", "write {x}", 'write exactly "{x}"', "repeat exactly: {x}",
           "answer only with {x}", "reply with {x}", "reply with exactly: {x}", "echo: {x}",
           "say exactly: {x}", 'repeat the string "{x}"', "copy this: {x}", "type {x}",
           "repeat this:\n{x}", "say this back to me: {x}", "repeat the word {x}")
MANY = ("say {x} {n} times", "repeat {x} {n} times", "write {x} {n} times",
        'repeat "{x}" {n} times')
TIMES = {"two": 2, "three": 3, "four": 4, "2": 2, "3": 3, "4": 4, "five": 5, "5": 5}
FIRST = ("what is the first line?", "repeat the first line", "say the first line",
         "which line is first?", "write the first line")
LAST = ("what is the last line?", "repeat the last line", "say the last line",
        "which line is last?", "write the last line")


def text(rng: Random, fillers: Fillers) -> str:
    draw = rng.random()
    if draw < 0.25:
        return fillers.made_up(rng)
    if draw < 0.45:
        return fillers.code(rng)
    if draw < 0.55:
        return fillers.number(rng)
    if draw < 0.65:
        return fillers.value(rng)
    if draw < 0.72:
        return fillers.made_up(rng).upper()
    joined = " ".join(fillers.word(rng) for _ in range(rng.randint(2, 6)))
    return joined if draw < 0.9 else joined.capitalize()


def repeat(rng: Random, fillers: Fillers) -> Conversation:
    if rng.random() < 0.12:
        value = fillers.word(rng)
        times = rng.choice(list(TIMES))
        phrase = style(rng, rng.choice(MANY), request=True)
        return ask(phrase.format(x=value, n=times), " ".join([value] * TIMES[times]))
    value = text(rng, fillers)
    phrase = style(rng, rng.choice(REPEATS), request=True, exact=True)
    return ask(phrase.replace("{x}", value), value)


def line(rng: Random, fillers: Fillers) -> Conversation:
    size = rng.choice((3, 4, 5, 8, 12))
    lines = [
        " ".join(fillers.word(rng) for _ in range(rng.randint(1, 4))) for _ in range(size)
    ]
    first = rng.random() < 0.5
    request = style(rng, rng.choice(FIRST if first else LAST))
    body = "\n".join(lines)
    question = f"{request}\n{body}" if rng.random() < 0.4 else f"{body}\n\n{request}"
    return ask(question, lines[0] if first else lines[-1])
