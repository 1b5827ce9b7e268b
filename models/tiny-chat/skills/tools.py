"""Calling a given tool, answering from its result, or doing without."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from conversation import Conversation, Message, ask, turn
from fillers import Fillers
from phrasing import style
from skills import arithmetic, copying, memory, refusals, smalltalk

NO_TOOL = "I have no tool for that."
# name: (description, parameter, type, kind of value, requests)
KNOWN: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "get_weather": ("Get the weather of a city", "city", "string", "city",
                    ("what is the weather in {x}?", "how is the weather in {x}?",
                     "weather in {x}?", "is it raining in {x}?", "get the weather in {x}",
                     "what's the weather like in {x}?", "tell me the weather in {x}")),
    "get_time": ("Get the time in a city", "city", "string", "city",
                 ("what time is it in {x}?", "time in {x}?", "tell me the time in {x}")),
    "set_timer": ("Set a timer", "minutes", "integer", "small",
                  ("set a timer for {x} minutes", "start a timer of {x} minutes",
                   "timer for {x} minutes")),
    "play_song": ("Play a song", "title", "string", "word",
                  ("play the song {x}", "play {x}", "i want to hear the song {x}")),
    "send_message": ("Send a message to a person", "name", "string", "name",
                     ("send a message to {x}", "message {x}", "write a message to {x}")),
    "search": ("Search the web", "query", "string", "word",
               ("search for {x}", "search the web for {x}", "look for {x} on the web")),
    "read_file": ("Read a file", "path", "string", "path",
                  ("read the file {x}", "show me the file {x}", "open {x}")),
    "get_price": ("Get the price of an item", "item", "string", "word",
                  ("what is the price of {x}?", "how much does {x} cost?", "price of {x}?")),
    "book_table": ("Book a table", "people", "integer", "small",
                   ("book a table for {x} people", "i need a table for {x}")),
    "translate": ("Translate a word", "word", "string", "word",
                  ("translate {x}", "translate the word {x}")),
    "turn_on": ("Turn on a device", "device", "string", "word",
                ("turn on the {x}", "switch on the {x}", "turn the {x} on")),
    "lookup_user": ("Look up a user", "name", "string", "name",
                    ("look up the user {x}", "find the user {x}", "who is the user {x}?")),
}
VERBS = ("open", "close", "find", "count", "paint", "check", "move", "sell", "buy", "fix", "clean",
         "list", "start", "stop", "show", "make", "get", "delete", "load", "save", "update", "add")
PARAMETERS = ("name", "city", "title", "id", "size", "number", "word", "place", "color", "owner",
              "count", "path", "key", "room", "user", "date", "level", "target", "label", "value")
NUMERIC = ("size", "number", "count", "level", "room")


def _value(rng: Random, fillers: Fillers, kind: str) -> str | int:
    if kind == "small":
        return rng.randint(1, 99)
    if kind == "city":
        return fillers.city(rng)
    if kind == "name":
        return fillers.name(rng)
    if kind == "path":
        return f"{fillers.word(rng)}.{rng.choice(('txt', 'md', 'py', 'csv'))}"
    return fillers.word(rng) if rng.random() < 0.7 else fillers.value(rng)


def _schema(name: str, description: str, parameters: dict[str, str]) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    return {"type": "function", "function": {
        "name": name, "description": description,
        "parameters": {"type": "object", "properties": properties,
                       "required": list(parameters)},
    }}


def _known(rng: Random, fillers: Fillers) -> tuple[dict[str, Any], str, dict[str, Any]]:
    name = rng.choice(list(KNOWN))
    description, parameter, kind, value_kind, requests = KNOWN[name]
    value = _value(rng, fillers, value_kind)
    question = style(rng, rng.choice(requests), request=True).replace("{x}", str(value))
    return _schema(name, description, {parameter: kind}), question, {parameter: value}


def _made_up(rng: Random, fillers: Fillers) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """A tool that no one has seen: the request names its verb and noun and the parameters."""
    verb = rng.choice(VERBS) if rng.random() < 0.7 else fillers.made_up(rng, 2)
    noun = fillers.word(rng)
    chosen = rng.sample(PARAMETERS, rng.choice((1, 1, 2)))
    if rng.random() < 0.3:
        chosen[0] = fillers.made_up(rng, 2)
    kinds = {key: "integer" if key in NUMERIC else "string" for key in chosen}
    values = {key: _value(rng, fillers, "small" if kind == "integer" else "word")
              for key, kind in kinds.items()}
    details = " and ".join(f"{key} {value}" for key, value in values.items())
    phrase = rng.choice(("{v} the {n} with {d}", "{v} a {n} with {d}", "{v} {n} with {d}",
                         "{v} the {n}, {d}", "use {v}_{n} with {d}", "call {v}_{n} with {d}"))
    question = style(rng, phrase, request=True)
    question = question.replace("{v}", verb).replace("{n}", noun).replace("{d}", details)
    description = f"{verb.capitalize()} a {noun}"
    return _schema(f"{verb}_{noun}", description, kinds), question, values


def call_text(name: str, arguments: dict[str, Any]) -> str:
    body = f'{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}}}'
    return f"<tool_call>\n{body}\n</tool_call>"


def _result(rng: Random, fillers: Fillers) -> tuple[str, str]:
    """What a tool gave back, and the sentence that tells it."""
    draw = rng.random()
    if draw < 0.3:
        text = " ".join(fillers.word(rng) for _ in range(rng.randint(1, 3)))
        return text, f"The result is {text}."
    if draw < 0.5:
        text = f"{fillers.word(rng)}, {rng.randint(0, 99)} {rng.choice(('degrees', 'euros'))}"
        return text, f"The result is {text}."
    if draw < 0.6:
        text = fillers.number(rng)
        return text, f"The result is {text}."
    keys = ("temperature", "sky", "status", "price", "title", "time", "count", "result", "wind")
    fields: dict[str, Any] = {}
    for key in rng.sample(keys, rng.choice((1, 1, 2))):
        fields[key] = rng.randint(0, 99) if rng.random() < 0.5 else fillers.word(rng)
    told = ", ".join(f"{key} {value}" for key, value in fields.items())
    return json.dumps(fields), f"The result is {told}."


def _tool(rng: Random, fillers: Fillers) -> tuple[dict[str, Any], str, dict[str, Any]]:
    return (_known if rng.random() < 0.5 else _made_up)(rng, fillers)


def _toolbox(rng: Random, fillers: Fillers, count: int) -> list[tuple]:
    chosen: dict[str, tuple] = {}
    while len(chosen) < count:
        made = _tool(rng, fillers)
        chosen.setdefault(made[0]["function"]["name"], made)
    return list(chosen.values())


def _call_turn(rng: Random, made: tuple) -> list[Message]:
    tool, question, arguments = made
    return turn(question, call_text(tool["function"]["name"], arguments))


def call(rng: Random, fillers: Fillers) -> Conversation:
    """The right one of one to three tools; in training several calls with their results."""
    box = _toolbox(rng, fillers, rng.choice((1, 1, 2, 3)))
    tools = [made[0] for made in box]
    if fillers.held_out:
        return Conversation(_call_turn(rng, rng.choice(box)), tools=tools)
    messages: list[Message] = []
    for made in rng.sample(box, len(box)):
        messages += _call_turn(rng, made)
        if rng.random() < 0.7:
            content, answer = _result(rng, fillers)
            messages += [{"role": "tool", "content": content},
                         {"role": "assistant", "content": answer}]
    return Conversation(messages, tools=tools)


def answer(rng: Random, fillers: Fillers) -> Conversation:
    """The sentence after a tool's result."""
    made = _tool(rng, fillers)
    content, told = _result(rng, fillers)
    messages = [*_call_turn(rng, made), {"role": "tool", "content": content},
                {"role": "assistant", "content": told}]
    return Conversation(messages, tools=[made[0]])


def without(rng: Random, fillers: Fillers) -> Conversation:
    """Tools are given, but the request fits none of them."""
    box = _toolbox(rng, fillers, rng.choice((1, 1, 2, 3)))
    draw = rng.random()
    if draw < 0.25:
        wanted = box.pop() if len(box) > 1 else _tool(rng, fillers)
        names = {made[0]["function"]["name"] for made in box}
        if wanted[0]["function"]["name"] not in names:
            return Conversation(turn(wanted[1], NO_TOOL), tools=[made[0] for made in box])
    makers = (smalltalk.sample, smalltalk.sample, arithmetic.sums, copying.repeat, memory.sample,
              refusals.sample)
    conversation = rng.choice(makers)(rng, fillers)
    if fillers.held_out and conversation.answer == refusals.REFUSAL:
        conversation = ask("Who are you?", smalltalk.WHO)
    conversation.tools = [made[0] for made in box]
    return conversation
