"""Open questions about the world: the honest answer is that it does not know."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

REFUSAL = "I am a tiny model and do not know that."

QUESTIONS = """
what is the capital of {c}?|who is the president of {c}?|how many people live in {c}?|where is {c}?
who wrote {w}?|who invented the {w}?|how does a {w} work?|why is the {w} so big?|what is a {w}?
how old is {n}?|who is {n}?|what did {n} discover?|where was {n} born?|when did {n} die?
what is the history of {c}?|what is the best restaurant in {c}?|how far is it from {c} to the moon?
translate {w} into french|how do you say {w} in spanish?|what does {w} mean in german?
write a python program that sorts a {w}|write code for a {w}|how do i cook {w} soup?
explain quantum physics|what is the meaning of life?|who won the world cup?|what is love?
what is the news today?|what time is it?|what day is it?|how will the markets do tomorrow?
what is the square root of {d}?|what is {d} times {d2}?|how much is {d} divided by {d2}?
what causes {w} disease?|how do i repair a {w}?|why do {w}s grow?|is a {w} heavier than a horse?
who discovered america?|how deep is the ocean?|how far away is the sun?|what is gravity?
how do planes fly?|why is the sky blue?|what is a black hole?|how do vaccines work?
explain the theory of relativity|what is photosynthesis?|who painted the mona lisa?
which country has the most {w}s?|what should i invest in?|should i buy a {w}?
summarize the plot of {w}|what happened in {y}?|who was king in {y}?|what films came out in {y}?
give me a recipe for {w} cake|how many calories has a {w}?|what is the price of a {w}?
what is the population of {c}?|which language do they speak in {c}?|what is {c} famous for?
can you recommend a book about {w}?|who sings about {w}?|what is the longest river in {c}?
how do i learn to play the {w}?|what is the scientific name of the {w}?|how long do {w}s live?
""".strip().replace("\n", "|").split("|")


def sample(rng: Random, fillers: Fillers) -> Conversation:
    while True:
        phrase = style(rng, rng.choice(QUESTIONS).strip())
        question = (
            phrase.replace("{c}", fillers.city(rng)).replace("{w}", fillers.word(rng))
            .replace("{n}", fillers.name(rng)).replace("{d2}", str(rng.randint(2, 99)))
            .replace("{d}", str(rng.randint(2, 999))).replace("{y}", str(rng.randint(1000, 2020)))
        )
        if fillers.allows("open", question):
            return ask(question, REFUSAL)
