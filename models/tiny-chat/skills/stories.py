"""Very short stories about a given hero, built from sentences with slots."""

from __future__ import annotations

from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

REQUESTS = ("tell me a story about {s}", "write a story about {s}", "a story about {s}",
            "tell me a short story about {s}", "write a short story about {s}",
            "make up a story about {s}", "i want a story about {s}", "short story about {s}")
PLACES = ("a small house", "an old tower", "a quiet village", "a green valley", "a deep forest",
          "a little boat", "a tall tree", "a busy town")
MOODS = ("kind", "brave", "curious", "quiet", "clever", "cheerful", "patient", "small")
WANTS = ("a friend", "a warm meal", "an adventure", "a new song", "a lost key", "a red kite",
         "the sea", "a place to rest")
FRIENDS = ("an owl", "a fox", "an old woman", "a boy", "a mouse", "a sailor", "a robot", "a cat")
TROUBLES = ("a storm came", "the road was gone", "night fell", "the bridge broke",
            "the wind took the map", "it began to rain")
HELPS = ("They shared some bread and waited", "They held hands and walked on",
         "They made a small fire", "They sang until it was over", "They built a new path",
         "They asked the stars for the way")
ENDS = ("From that day on they were friends.", "And so the day ended well.",
        "Then they all went home.", "That night {n} slept very well.",
        "{n} smiled and was happy.")
SUBJECTS = ("Once", "One day", "Long ago", "Last year", "One morning", "In spring")


def sentence(rng: Random, fillers: Fillers) -> str:
    """One sentence of a story, also used as text that hides something."""
    name = fillers.name(rng)
    return rng.choice((
        f"{name} lived in {rng.choice(PLACES)}.",
        f"{name} was {rng.choice(MOODS)} and looked for {rng.choice(WANTS)}.",
        f"{rng.choice(SUBJECTS)} {name} met {rng.choice(FRIENDS)}.",
        f"The {fillers.word(rng)} was near the {fillers.word(rng)}.",
        f"Then {rng.choice(TROUBLES)}.",
        f"{rng.choice(HELPS)}.",
        f"{name} had a {fillers.word(rng)} and a {fillers.word(rng)}.",
    ))


def sample(rng: Random, fillers: Fillers) -> Conversation:
    name = fillers.name(rng)
    form = rng.random()
    if form < 0.4:
        subject, hero, call = name, name, name
    elif form < 0.7:
        what = fillers.word(rng)
        subject = f"a {what} named {name}" if rng.random() < 0.5 else f"a {what} called {name}"
        hero, call = f"a {what} named {name}", name
    else:
        what = fillers.word(rng)
        article = "an" if what[0] in "aeiou" else "a"
        subject, hero, call = f"{article} {what}", f"{article} {what}", f"the {what}"
    start = call[0].upper() + call[1:]
    friend = rng.choice(FRIENDS)
    lines = [
        f"Once there was {hero} in {rng.choice(PLACES)}.",
        f"{start} was {rng.choice(MOODS)} and wanted {rng.choice(WANTS)}.",
        f"{rng.choice(('One day', 'One morning', 'Then'))} {call} met {friend}.",
    ]
    if rng.random() < 0.6:
        lines.append(f'"Come with me," said {call}.')
    lines.append(f"They went out together, but {rng.choice(TROUBLES)}.")
    if rng.random() < 0.8:
        lines.append(f"{rng.choice(HELPS)}.")
    if rng.random() < 0.5:
        lines.append(f"At last {call} found {rng.choice(WANTS)}.")
    ending = rng.choice(ENDS).replace("{n}", call)
    lines.append(ending[0].upper() + ending[1:])
    question = style(rng, rng.choice(REQUESTS), request=True).replace("{s}", subject)

    def rule(answer: str) -> bool:
        return (call in answer and answer.endswith(".") and "<" not in answer
                and 3 <= answer.count(".") <= 12)

    return ask(question, " ".join(lines), rule=rule)
