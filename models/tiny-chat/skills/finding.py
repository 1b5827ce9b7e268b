"""Finding one line or one sentence in a short or a very long prompt."""

from __future__ import annotations

from random import Random

from conversation import Conversation, turn
from fillers import Fillers
from phrasing import style
from skills.stories import sentence

ASK_KEY = ("what is the value of {k}?", "value of {k}?", "find {k}", "which value has {k}?",
           "what is {k}?", "look up {k}", "{k}?", "tell me the value of {k}", "give me {k}",
           "what is the value of {k}?", "what does {k} stand for?")
SEPARATORS = (": ", ": ", " = ", " is ", " -> ")
THINGS = ("secret word", "password", "magic number", "access code", "pass phrase", "room number",
          "code word", "special token", "hidden key", "secret number")
ASK_THING = ("what is the {t}?", "what was the {t}?", "tell me the {t}", "find the {t}",
             "which is the {t}?", "do you remember the {t}?", "the {t}?", "give me the {t}")
ASK_OWNED = ("what is {n}'s {t}?", "what is the {t} of {n}?", "tell me {n}'s {t}")
OWNED = ("code", "city", "number", "word", "room")
LOREM = [
    "lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed",
    "do", "eiusmod", "tempor", "incididunt", "ut", "labore", "et", "dolore", "magna",
    "aliqua", "enim", "ad", "minim", "veniam", "quis", "nostrud", "exercitation", "ullamco",
]
INTRO = ("here is a list:\n", "remember this:\n", "", "read this:\n", "the data:\n", "")


def noise(rng: Random, fillers: Fillers) -> str:
    draw = rng.random()
    if draw < 0.6:
        return sentence(rng, fillers)
    if draw < 0.8:
        words = " ".join(rng.choice(LOREM) for _ in range(rng.randint(4, 10)))
        return words.capitalize() + "."
    return " ".join(fillers.word(rng) for _ in range(rng.randint(3, 8))).capitalize() + "."


def pairs(rng: Random, fillers: Fillers, size: int, asked: int) -> Conversation:
    """`size` lines of key and value, then questions; the answer repeats the line."""
    separator = rng.choice(SEPARATORS)
    table: dict[str, str] = {}
    while len(table) < size:
        table[fillers.key(rng)] = fillers.value(rng)
    lines = [f"{key}{separator}{value}" for key, value in table.items()]
    body = rng.choice(INTRO) + "\n".join(lines)
    messages = []
    for index in range(asked):
        key = rng.choice(list(table))
        question = style(rng, rng.choice(ASK_KEY)).replace("{k}", key)
        if index == 0:
            question = f"{body}\n\n{question}"
        messages += turn(question, f"{key}{separator}{table[key]}")
    return Conversation(messages)


def hidden(rng: Random, fillers: Fillers, size: int, asked: int) -> Conversation:
    """Sentences with a few facts among them."""
    facts: list[tuple[str, str]] = []
    for thing in rng.sample(THINGS, min(len(THINGS), asked)):
        if rng.random() < 0.5:
            question = style(rng, rng.choice(ASK_THING)).replace("{t}", thing)
            facts.append((question, f"The {thing} is {fillers.value(rng)}."))
        else:
            name, owned = fillers.name(rng), rng.choice(OWNED)
            question = style(rng, rng.choice(ASK_OWNED)).replace("{n}", name)
            facts.append((question.replace("{t}", owned),
                          f"{name}'s {owned} is {fillers.value(rng)}."))
    if rng.random() < 0.2:
        sentences = [noise(rng, fillers)] * size
    else:
        sentences = [noise(rng, fillers) for _ in range(size)]
    for _, fact in facts:
        sentences.insert(rng.randint(0, len(sentences)), fact)
    body = rng.choice((" ", " ", "\n")).join(sentences)
    messages = []
    for index, (question, fact) in enumerate(rng.sample(facts, len(facts))):
        if index == 0:
            question = f"{body}\n\n{question}"
        messages += turn(question, fact)
    if rng.random() < 0.2:
        # The same question, with the text in the system prompt.
        messages[0]["content"] = messages[0]["content"].rsplit("\n\n", 1)[1]
        messages.insert(0, {"role": "system", "content": body})
    return Conversation(messages)


def short(rng: Random, fillers: Fillers) -> Conversation:
    if rng.random() < 0.6:
        return pairs(rng, fillers, rng.randint(2, 12), 1 if fillers.held_out else 3)
    return hidden(rng, fillers, rng.randint(0, 6), 1 if fillers.held_out else 2)


def medium(rng: Random, fillers: Fillers) -> Conversation:
    if rng.random() < 0.6:
        return pairs(rng, fillers, rng.randint(12, 50), 1 if fillers.held_out else 6)
    return hidden(rng, fillers, rng.randint(6, 30), 1 if fillers.held_out else 4)


def long(rng: Random, fillers: Fillers) -> Conversation:
    """About 1,000 to 3,600 tokens."""
    if rng.random() < 0.6:
        return pairs(rng, fillers, rng.randint(100, 300), 1 if fillers.held_out else 12)
    return hidden(rng, fillers, rng.randint(70, 200), 1 if fillers.held_out else 8)
