"""Remembering what the user told about themselves, some turns later."""

from __future__ import annotations

from random import Random

from conversation import Conversation, turn
from fillers import Fillers
from phrasing import style
from skills import arithmetic, copying, smalltalk

# kind: (how it is said, the reply, how it is asked, the answer)
KINDS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...], str]] = {
    "name": (
        ("my name is {x}", "i am {x}", "i'm {x}", "hi, my name is {x}", "hello, i am {x}",
         "call me {x}", "my name is {x}, remember it", "hi! i'm {x}"),
        "Nice to meet you, {x}!",
        ("what is my name?", "what's my name?", "do you remember my name?", "who am i?",
         "tell me my name", "what am i called?", "do you know my name?", "say my name"),
        "Your name is {x}.",
    ),
    "colour": (
        ("my favourite colour is {x}", "my favorite color is {x}", "i like the colour {x}",
         "i love {x}, it is my favourite colour"),
        "{x} is a nice colour.",
        ("what is my favourite colour?", "what is my favorite color?", "which colour do i like?",
         "what colour do i like?", "do you remember my favourite colour?"),
        "Your favourite colour is {x}.",
    ),
    "city": (
        ("i live in {x}", "i am from {x}", "my city is {x}", "my home is in {x}"),
        "{x} sounds nice.",
        ("where do i live?", "which city do i live in?", "where am i from?", "what is my city?",
         "do you remember where i live?"),
        "You live in {x}.",
    ),
    "pet": (
        ("i have a {x}", "my pet is a {x}", "i have a pet {x}", "at home i have a {x}"),
        "A {x} is a lovely pet.",
        ("what pet do i have?", "which animal do i have?", "what is my pet?",
         "do you remember my pet?", "what kind of pet do i have?"),
        "You have a {x}.",
    ),
}
BETWEEN = (smalltalk.sample, smalltalk.sample, arithmetic.sums, copying.repeat)


def _value(rng: Random, fillers: Fillers, kind: str) -> str:
    if kind == "name":
        return fillers.name(rng)
    return fillers.city(rng) if kind == "city" else fillers.listed(rng, kind)


def sample(rng: Random, fillers: Fillers) -> Conversation:
    kinds = ["name"] if rng.random() < 0.4 else rng.sample(list(KINDS), rng.randint(1, 3))
    messages = []
    asked = []
    for kind in kinds:
        said, reply, questions, answer = KINDS[kind]
        value = _value(rng, fillers, kind)
        reply = reply.replace("{x}", value)
        statement = style(rng, rng.choice(said)).replace("{x}", value)
        messages += turn(statement, reply[0].upper() + reply[1:])
        asked.append((rng.choice(questions), answer.replace("{x}", value)))
    rng.shuffle(asked)
    for question, answer in asked:
        for _ in range(rng.choice((0, 1, 2, 3))):
            messages += rng.choice(BETWEEN)(rng, fillers).messages
        messages += turn(style(rng, question), answer)
    return Conversation(messages)
