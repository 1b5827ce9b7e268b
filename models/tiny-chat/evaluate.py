"""Asks the GGUF the held-out prompts, greedily, many at once, and counts exact answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue

from llmengine.config import Config, ModelConfig, ServerConfig
from llmengine.core import Output, Request
from llmengine.engine.engine import Engine
from llmengine.errors import ContextLengthExceeded
from llmengine.sampling import SamplingParams

from conversation import Conversation, Renderer
from generate import held_out

MOST_TOKENS = 260
Complete = Callable[[list[str]], list[str]]


def engine_completer(path: Path) -> Complete:
    """The one place that knows the engine: prompts in, their greedy continuations out."""

    def complete(prompts: list[str]) -> list[str]:
        params = SamplingParams(temperature=0, max_tokens=MOST_TOKENS)
        outputs: SimpleQueue[Sequence[Output]] = SimpleQueue()
        texts = [""] * len(prompts)
        left = len(prompts)
        model = ModelConfig(model_path=str(path))
        with Engine(Config(model=model, server=ServerConfig(max_queue=left))) as engine:
            for number, prompt in enumerate(prompts):
                tokens = tuple(engine.tokenize(prompt, special=True))
                request = Request(id=str(number), prompt=tokens, params=params)
                try:
                    engine.submit(request, outputs.put)
                except ContextLengthExceeded:  # No answer: wrong.
                    left -= 1
            while left:
                for output in outputs.get():
                    number = int(output.request_id)
                    texts[number] += output.text
                    left -= output.finish_reason is not None
                    if output.finish_reason == "length":
                        texts[number] = ""  # It never ended: wrong, whatever it says.
        return texts

    return complete


def without_thought(conversation: Conversation, text: str) -> str:
    if conversation.reasoning is None:
        return text
    return text.partition("\n</think>\n\n")[2]


def score(complete: Complete, cases: Iterable[tuple[str, Conversation]],
          report: Callable[[str], None] | None = None) -> dict[str, tuple[int, int]]:
    """Right answers and prompts, per skill."""
    renderer = Renderer()
    cases = list(cases)
    answers = complete([renderer.prompt(conversation) for _, conversation in cases])
    figures: dict[str, tuple[int, int]] = {}
    for (skill, conversation), answer in zip(cases, answers, strict=True):
        said = without_thought(conversation, answer)
        right = conversation.is_right(said)
        hits, total = figures.get(skill, (0, 0))
        figures[skill] = (hits + right, total + 1)
        if report and not right:
            report(f"[{skill}] {conversation.messages[-2]['content'][-90:]!r}\n"
                   f"    wanted {conversation.answer!r}\n    got    {said!r}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path,
                        default=Path(__file__).parents[1] / "tiny-chat.gguf")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    arguments = parser.parse_args()
    cases = held_out(arguments.seed)
    figures = score(engine_completer(arguments.model), cases, print if arguments.wrong else None)
    for skill, (hits, total) in figures.items():
        print(f"| {skill} | {hits} / {total} | {100 * hits / total:.0f} % |")
    hits, total = (sum(column) for column in zip(*figures.values(), strict=True))
    print(f"| all | {hits} / {total} | {100 * hits / total:.1f} % |")


if __name__ == "__main__":
    main()
