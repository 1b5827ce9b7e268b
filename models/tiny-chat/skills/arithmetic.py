"""Counting, sums and differences of numbers up to 99."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

SUMS = ("what is {a} + {b}?", "{a} + {b}", "{a} + {b} = ?", "how much is {a} + {b}?",
        "what is {a} plus {b}?", "{a} plus {b}?", "add {a} and {b}", "compute {a} + {b}",
        "calculate {a} + {b}", "{a}+{b}", "what is the sum of {a} and {b}?", "{a} + {b} =",
        "what's {a} + {b}?", "sum {a} and {b}")
DIFFERENCES = ("what is {a} - {b}?", "{a} - {b}", "{a} - {b} = ?", "how much is {a} - {b}?",
               "what is {a} minus {b}?", "{a} minus {b}?", "subtract {b} from {a}",
               "compute {a} - {b}", "calculate {a} - {b}", "{a}-{b}", "{a} - {b} =",
               "what's {a} - {b}?", "take {b} from {a}")
COUNTS = ("count from {a} to {b}", "count {a} to {b}", "write the numbers from {a} to {b}",
          "list the numbers from {a} to {b}", "count for me from {a} to {b}",
          "give me the numbers {a} to {b}", "say the numbers from {a} to {b}")
COUNTS_UP = ("count up from {a} to {b}", "count to {b} from {a}")
COUNTS_DOWN = ("count down from {a} to {b}", "count backwards from {a} to {b}")


def result(a: int, operator: str, b: int) -> int:
    return a + b if operator == "+" else a - b


def question(rng: Random, a: int, operator: str, b: int) -> str:
    phrase = rng.choice(SUMS if operator == "+" else DIFFERENCES)
    return style(rng, phrase, request=phrase[0].isalpha()).format(a=a, b=b)


def draw(rng: Random, fillers: Fillers) -> tuple[int, str, int]:
    operator = rng.choice("++-")
    a, b = fillers.pair(rng, operator)
    return a, operator, b


def sums(rng: Random, fillers: Fillers) -> Conversation:
    a, operator, b = draw(rng, fillers)
    answer = f"{a} {operator} {b} = {result(a, operator, b)}."
    return ask(question(rng, a, operator, b), answer)


def counting(rng: Random, fillers: Fillers) -> Conversation:
    while True:
        start = rng.choice((0, 1, 1, rng.randint(0, 20), rng.randint(0, 95)))
        end = min(100, start + rng.randint(2, 19))
        if rng.random() < 0.3:
            start, end = end, start
        if fillers.allows("count", f"{start}-{end}"):
            break
    step = 1 if end > start else -1
    numbers = ", ".join(str(n) for n in range(start, end + step, step))
    phrases = COUNTS + (COUNTS_UP if step > 0 else COUNTS_DOWN * 3)
    phrase = style(rng, rng.choice(phrases), request=True)
    if start == 1 and rng.random() < 0.3:
        phrase = style(rng, "count to {b}", request=True)
    return ask(phrase.format(a=start, b=end), numbers + ".")
