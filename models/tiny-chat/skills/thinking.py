"""A short thought before the answer, when thinking is on."""

from __future__ import annotations

from random import Random

from conversation import Conversation
from fillers import Fillers
from skills import (
    arithmetic,
    copying,
    engine_facts,
    finding,
    json_objects,
    memory,
    ordering,
    refusals,
    smalltalk,
)


def _sum(rng: Random, fillers: Fillers) -> tuple[Conversation, str]:
    a, operator, b = arithmetic.draw(rng, fillers)
    value = arithmetic.result(a, operator, b)
    tens, ones = b - b % 10, b % 10
    middle = arithmetic.result(a, operator, tens)
    thought = f"{a} {operator} {tens} = {middle}, {middle} {operator} {ones} = {value}."
    question = arithmetic.question(rng, a, operator, b)
    return Conversation([
        {"role": "user", "content": question},
        {"role": "assistant", "content": f"{a} {operator} {b} = {value}."},
    ]), thought


def _order(rng: Random, fillers: Fillers) -> tuple[Conversation, str]:
    conversation = ordering.words(rng, fillers)
    letters = ", ".join(word[0] for word in conversation.answer.split(", "))
    return conversation, f"The first letters in order are {letters}."


OTHERS = (
    (smalltalk.sample, "The user makes small talk. I answer kindly."),
    (smalltalk.sample, "The user makes small talk. I answer kindly."),
    (copying.repeat, "The user wants me to repeat something."),
    (finding.short, "The answer is in the text. I repeat it."),
    (memory.sample, "The user told me this before."),
    (engine_facts.sample, "The user asks about llmengine."),
    (refusals.sample, "The user asks about the world. I do not know that."),
    (json_objects.sample, "The user wants JSON."),
    (ordering.numbers, "I compare the numbers."),
    (arithmetic.counting, "I count step by step."),
)


def sample(rng: Random, fillers: Fillers) -> Conversation:
    draw = rng.random()
    if draw < 0.4:
        conversation, thought = _sum(rng, fillers)
    elif draw < 0.55:
        conversation, thought = _order(rng, fillers)
    else:
        make, thought = rng.choice(OTHERS)
        conversation = make(rng, fillers)
        if make is memory.sample and conversation.answer.startswith("Nice"):
            thought = "The user makes small talk. I answer kindly."
    conversation.reasoning = thought
    return conversation
