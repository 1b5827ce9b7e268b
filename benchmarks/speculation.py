"""Drafts against none, paired in one run: on texts that repeat and on one that does not.

    python -m benchmarks.speculation [--shape qwen2.5-0.5b] [--rounds 7] [--draft FILE]

Random weights repeat nothing of what they read, so the choice of tokens is scripted: the answer is
a text that a model would give to such a request. What is computed, verified and sampled from is
the model's own, each row of it, and so is the time. The texts are cut by the embedded model's
tokenizer, whose tokens are shorter than those of the shape's own would be.

A draft model knows nothing of the script: with `--draft` (`self`: the same random weights) its
guesses are wrong, and what is shown is the cost of finding that out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from llmengine.bench.shapes import SHAPES
from llmengine.bench.weights import write
from llmengine.config import Config
from llmengine.core import Request, Stats
from llmengine.engine import runner
from llmengine.engine.engine import Engine
from llmengine.grammar.compiler import Compiler
from llmengine.llama.matcher import Matcher
from llmengine.llama.model import Model
from llmengine.llama.sampler import Sampler
from llmengine.models import locate
from llmengine.sampling import Constraint, SamplingParams

EDITED = Path(runner.__file__)  # a file of code that is to be edited


class Task(msgspec.Struct, frozen=True):
    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    prediction: tuple[int, ...] = ()
    matcher: Matcher | None = None


class Scripted(Sampler):
    """Chooses as it would, and then says what the script has next."""

    script: Sequence[int] = ()

    def _choose(self, logits: Any, *, again: bool = False) -> int:
        super()._choose(logits, again=again)
        token, *self.script = self.script
        return token


def tasks(model: Model, tokens: int) -> list[Task]:
    """With the tokens of `model`, which has to stay open."""
    code = EDITED.read_text()
    begin = code.index("class Runner")
    code = code[begin : begin + 6 * tokens]
    edited = code.replace("sequence", "generation").replace("step", "round")
    records = [_record(number) for number in range(60)]
    shown, asked = "\n".join(records[:3]), "\n".join(records[3:])
    listed = json.dumps([json.loads(record) for record in records])
    schema = Constraint("json_schema", json.dumps({"type": "array", "items": RECORD}))

    def cut(text: str) -> tuple[int, ...]:
        return tuple(model.tokenize(text))

    rng = random.Random(1)
    noise = tuple(rng.randrange(256, 30_000) for _ in range(tokens + 200))
    return [
        Task("a file is said again", cut(code), cut(code)[:tokens]),
        Task("a file is edited, two names are others", cut(code), cut(edited)[:tokens]),
        Task("the same, with a prediction", cut("Edit it."), cut(edited)[:tokens], cut(code)),
        Task("records of JSON", cut(shown + "\n"), cut(asked)[:tokens]),
        Task(
            "records by a schema, none shown",
            cut("List them."),
            cut(listed)[:tokens],
            matcher=Compiler(model).matcher(schema),
        ),
        Task("text that does not repeat", noise[:200], noise[200:]),
    ]


RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "email": {"type": "string"},
        "age": {"type": "integer"},
        "active": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "name", "email", "age", "active", "tags"],
    "additionalProperties": False,
}


def _record(number: int) -> str:
    rng = random.Random(number)
    return json.dumps(
        {
            "id": number,
            "name": rng.choice(["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"]),
            "email": f"user{number}@example.com",
            "age": rng.randrange(18, 90),
            "active": rng.random() < 0.8,
            "tags": rng.sample(["red", "green", "blue", "black"], 2),
        }
    )


def settings(path: Path, streams: int, speculation: str, draft: str = "") -> Config:
    return msgspec.convert(
        {
            "model": {"model_path": str(path), "context_size": 16384, "draft_model": draft},
            "server": {"max_concurrent_requests": streams},
            "cache": {"enabled": False},
            "performance": {"speculation": speculation},
        },
        Config,
    )


def run(engine: Engine, task: Task, streams: int, params: SamplingParams) -> float:
    """Tokens per second of all streams, from the last first token on."""
    outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def sampler(request: Request) -> Scripted:
        matcher = task.matcher.copy() if task.matcher else None
        found = Scripted(engine._model, request.params, request.prompt, len(task.answer), matcher)
        found.script = task.answer
        return found

    with mock.patch.object(engine, "_sampler", sampler):
        for stream in range(streams):
            request = Request(
                id=f"{stream}", prompt=task.prompt, params=params, prediction=task.prediction,
                cache_salt=f"{stream}",
            )  # fmt: skip
            engine.submit(request, outputs.put)
    times: list[tuple[float, int]] = []
    begun: set[str] = set()
    start, left = 0.0, streams
    while left:
        batch = outputs.get()
        now = time.perf_counter()
        for output in batch:
            if output.request_id not in begun:
                begun.add(output.request_id)
                start = now
            times.append((now, output.tokens))
            left -= output.finish_reason is not None
    return sum(count for at, count in times if at > start) / (times[-1][0] - start)


def accepted(before: Stats, after: Stats) -> str:
    drafted = after.drafted_tokens - before.drafted_tokens
    right = after.accepted_tokens - before.accepted_tokens
    steps, tokens = after.steps - before.steps, after.completion_tokens - before.completion_tokens
    return f"{tokens / steps:.1f} tokens a step, {right} of {drafted} guesses right"


def compare(engines: tuple[Engine, Engine], task: Task, streams: int, rounds: int) -> None:
    params = SamplingParams(max_tokens=len(task.answer), temperature=0.8, seed=1)
    plain, guessing = engines
    ratios, speeds = [], []
    for each in range(rounds + 1):
        before = guessing.stats()
        slow, fast = run(plain, task, streams, params), run(guessing, task, streams, params)
        if each:  # the first one warms up
            ratios.append(fast / slow)
            speeds.append(fast)
    print(
        f"{streams:>2} streams, {task.name}: {statistics.median(ratios):.2f} x without drafts "
        f"({min(ratios):.2f} to {max(ratios):.2f}), {statistics.median(speeds):.0f} tok/s; "
        f"{accepted(before, guessing.stats())}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--only", default="", help="tasks with this in their name")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--draft", default="", help="a draft model's GGUF file, or `self`")
    arguments = parser.parse_args()
    small = Model(locate.find(Config().model), Config())
    with contextlib.closing(small), tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "model.gguf", SHAPES[arguments.shape])
        draft = str(path) if arguments.draft == "self" else arguments.draft
        chosen = [each for each in tasks(small, arguments.tokens) if arguments.only in each.name]
        for streams in arguments.streams:
            with (
                Engine(settings(path, streams, "off")) as plain,
                Engine(settings(path, streams, "auto", draft)) as guessing,
            ):
                for task in chosen:
                    compare((plain, guessing), task, streams, arguments.rounds)


if __name__ == "__main__":
    main()
