"""One JSON object with the keys and values of the request."""

from __future__ import annotations

import json
from random import Random

from conversation import Conversation, ask
from fillers import Fillers
from phrasing import style

REQUESTS = ("give me json with {x}", "json with {x}", "write json with {x}",
            "answer in json: {x}", "make a json object with {x}", "as json: {x}",
            "return json with {x}", "give me a json object with {x}", "write a json with {x}",
            "output json: {x}", "create json with {x}")
JOINS = ("{k} {v}", "{k} {v}", "{k}: {v}", "{k} = {v}")
TEXT_KEYS = ("city", "colour", "color", "word", "title", "id", "code", "country", "street", "type",
             "pet", "job", "food", "label", "status", "color", "surname")
NUMBER_KEYS = ("age", "count", "size", "year", "price", "number", "score", "total", "weight",
               "floor", "height", "port")


def _field(rng: Random, fillers: Fillers) -> tuple[str, str | int]:
    draw = rng.random()
    if draw < 0.3:
        return "name", fillers.name(rng)
    if draw < 0.55:
        key = rng.choice(NUMBER_KEYS)
        return key, rng.randint(0, 99) if rng.random() < 0.7 else int(fillers.number(rng))
    if draw < 0.65:
        return fillers.made_up(rng), rng.randint(0, 999)
    if draw < 0.75:
        return fillers.made_up(rng), fillers.word(rng)
    key = rng.choice(TEXT_KEYS)
    if key == "city":
        return key, fillers.city(rng)
    return key, fillers.word(rng)


def sample(rng: Random, fillers: Fillers) -> Conversation:
    size = rng.choice((1, 2, 2, 3, 3))
    fields: dict[str, str | int] = {}
    while len(fields) < size:
        key, value = _field(rng, fillers)
        fields.setdefault(key, value)
    join = rng.choice(JOINS)
    parts = [join.format(k=key, v=value) for key, value in fields.items()]
    if len(parts) == 1:
        listed = parts[0]
    elif rng.random() < 0.7:
        listed = ", ".join(parts[:-1]) + " and " + parts[-1]
    else:
        listed = ", ".join(parts)
    question = style(rng, rng.choice(REQUESTS), request=True).replace("{x}", listed)
    return ask(question, json.dumps(fields))
