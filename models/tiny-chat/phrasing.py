"""Ways to say the same thing: letter case, punctuation, polite words around a request."""

from __future__ import annotations

from random import Random

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are tiny-chat.",
    "You are a friendly assistant.",
    "Answer in short sentences.",
    "Be brief.",
    "You are a concise and polite assistant.",
    "Be helpful and honest.",
)
BEFORE = ("please {}", "can you {}", "could you {}", "hey, {}", "now {}", "ok, {}", "{} please",
          "{}, please", "i want you to {}", "would you {}")


def style(rng: Random, phrase: str, request: bool = False, exact: bool = False) -> str:
    """Varies a phrase before its slots are filled, so the fillers keep their own case.

    With `exact`, nothing is put after a slot at the end: what fills it is to be repeated.
    """
    if request and rng.random() < 0.35:
        phrase = rng.choice(BEFORE).replace("{}", phrase, 1)
    draw = rng.random()
    if draw < 0.45:
        phrase = phrase[:1].upper() + phrase[1:]
    elif draw < 0.5 and "{" not in phrase:
        phrase = phrase.upper()
    if phrase[-1] == "}":
        if not exact:
            asked = phrase.lower().startswith(("what", "which", "who", "how", "do "))
            phrase += rng.choice(("", "?") if asked else ("", "", ".", ".", "!"))
    elif phrase[-1] not in ".?!:":
        phrase += rng.choice(("", "", ".", "!"))
    elif phrase[-1] in ".?!" and rng.random() < 0.35:
        phrase = phrase[:-1]
    return phrase


def system_prompt(rng: Random) -> dict[str, str]:
    return {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}
