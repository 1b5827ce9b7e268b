"""Asks the GGUF the held-out prompts, greedily through llama.cpp, and counts exact answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from conversation import Conversation, Renderer
from generate import held_out

MOST_TOKENS = 260
Complete = Callable[[str], str]


def llama_completer(path: Path, threads: int = 2) -> Complete:
    """The one place that knows the engine: a prompt in, its greedy continuation out."""
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False)

    def complete(prompt: str) -> str:
        tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
        answer = []
        for token in model.generate(tokens, temp=0.0, repeat_penalty=1.0):
            if token == model.token_eos() or len(answer) == MOST_TOKENS:
                break
            answer.append(token)
        if len(answer) == MOST_TOKENS:
            return ""  # It never ended: wrong, whatever it says.
        return model.detokenize(answer, special=True).decode(errors="replace")

    return complete


def without_thought(conversation: Conversation, text: str) -> str:
    if conversation.reasoning is None:
        return text
    return text.partition("\n</think>\n\n")[2]


def score(complete: Complete, cases: Iterable[tuple[str, Conversation]],
          report: Callable[[str], None] | None = None) -> dict[str, tuple[int, int]]:
    """Right answers and prompts, per skill."""
    renderer = Renderer()
    figures: dict[str, tuple[int, int]] = {}
    for skill, conversation in cases:
        said = without_thought(conversation, complete(renderer.prompt(conversation)))
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
    figures = score(llama_completer(arguments.model), cases, print if arguments.wrong else None)
    for skill, (hits, total) in figures.items():
        print(f"| {skill} | {hits} / {total} | {100 * hits / total:.0f} % |")
    hits, total = (sum(column) for column in zip(*figures.values(), strict=True))
    print(f"| all | {hits} / {total} | {100 * hits / total:.1f} % |")


if __name__ == "__main__":
    main()
