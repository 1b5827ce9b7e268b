"""What is asked of a server: conversations of one or more turns, made anew for every load."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from llmengine.bench import words
from llmengine.bench.words import Ruler

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "member": {"type": "boolean"},
        "orders": {
            "type": "array",
            "minItems": 2,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "article": {"enum": ["pencil", "paper", "lamp", "chair"]},
                    "count": {"type": "integer", "minimum": 1, "maximum": 99},
                },
                "required": ["article", "count"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["name", "age", "member", "orders"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "customer", "schema": SCHEMA}}


class Turn(Struct, frozen=True):
    body: dict[str, Any]  # of the request; the messages of the turns before it come first
    part: str = ""  # the report has rows of each, where a workload has several
    full: bool = True  # whether all of `max_tokens` are wanted, however the model would end
    is_json: bool = False  # whether an answer that ends by itself has to be JSON


class Conversation(Struct, frozen=True):
    turns: tuple[Turn, ...]
    after: int = 0  # begins when so many others have their first token
    at: float | None = None  # seconds after the start, where it says so itself


class Size(Struct, frozen=True, kw_only=True):
    """Of the conversations that are made; `input`, `output` and `prefix` in tokens."""

    count: int
    input: int
    output: int
    prefix: int = 0
    turns: int = 1


Make = Callable[[random.Random, Ruler, Size], list[Conversation]]


class Workload(Struct, frozen=True, kw_only=True):
    """How to make it, and its usual size."""

    make: Make
    input: int
    output: int
    prefix: int = 0
    turns: int = 1
    count: Callable[[int], int] = lambda clients: max(16, 2 * clients)
    at_once: bool = False  # whether all come at the same moment

    def size(self, clients: int, given: Mapping[str, int]) -> Size:
        """For so many clients; `given` are values by name that somebody chose."""
        usual = {
            "count": self.count(clients),
            "input": self.input,
            "output": self.output,
            "prefix": self.prefix,
            "turns": self.turns,
        }
        return Size(**{**usual, **given})


def _ask(output: int, text: str, system: str = "", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    return {"messages": messages, "max_tokens": output, **more}


def _random(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    count = ruler.words(size.input)
    texts = [words.text(chance, count) for _ in range(size.count)]
    return [Conversation((Turn(_ask(size.output, text)),)) for text in texts]


def _shared_prefix(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    prefix = words.text(chance, ruler.words(size.prefix))
    count = ruler.words(size.input, around=False)
    parts = ["first request", *["later requests"] * (size.count - 1)]

    def turn(part: str) -> Turn:
        return Turn(_ask(size.output, words.text(chance, count), prefix), part)

    return [Conversation((turn(part),)) for part in parts]


def _multi_turn(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    count = ruler.words(size.input)
    parts = ["first turns", *["later turns"] * (size.turns - 1)]

    def turn(part: str) -> Turn:
        return Turn(_ask(size.output, words.text(chance, count)), part)

    return [Conversation(tuple(map(turn, parts))) for _ in range(size.count)]


def _long_prompt_arrives(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    """A prompt of `prefix` tokens, when streams with prompts of `input` tokens are running."""
    count = ruler.words(size.input)
    streams = [
        Conversation((Turn(_ask(size.output, words.text(chance, count)), "streams"),))
        for _ in range(size.count - 1)
    ]
    text = words.text(chance, ruler.words(size.prefix))
    long = Turn(_ask(LONG_OUTPUT, text), "long prompt")
    return [*streams, Conversation((long,), after=len(streams))]


def _json_schema(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    count = ruler.words(size.input)

    def turn() -> Turn:
        text = f"Invent a customer: {words.text(chance, count)}"
        body = _ask(size.output, text, response_format=FORM)
        return Turn(body, full=False, is_json=True)

    return [Conversation((turn(),)) for _ in range(size.count)]


def _repetitive_edit(chance: random.Random, ruler: Ruler, size: Size) -> list[Conversation]:
    """The answer that is asked for repeats nearly all of the prompt."""

    def turn() -> Turn:
        code = words.code(chance, ruler.words(size.input, around=False))
        name = code.partition(" ")[0]
        text = f"Rename {name} to total and repeat all else as it is:\n\n{code}"
        return Turn(_ask(size.output, text))

    return [Conversation((turn(),)) for _ in range(size.count)]


LONG_OUTPUT = 16  # tokens

WORKLOADS = {
    "random": Workload(make=_random, input=205, output=48),
    "shared-prefix": Workload(make=_shared_prefix, input=40, output=48, prefix=1308),
    "multi-turn": Workload(
        make=_multi_turn, input=150, output=48, turns=4, count=lambda clients: max(12, 2 * clients)
    ),
    "long-prompt-arrives": Workload(
        make=_long_prompt_arrives,
        input=20,
        output=128,
        prefix=3200,
        count=lambda clients: clients + 1,
    ),
    "burst": Workload(
        make=_random, input=205, output=48, count=lambda clients: 4 * clients, at_once=True
    ),
    "json-schema": Workload(make=_json_schema, input=60, output=200),
    "repetitive-edit": Workload(make=_repetitive_edit, input=300, output=300),
}
