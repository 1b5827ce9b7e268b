"""What it costs to render and tokenize a growing conversation anew in every turn.

    python -m benchmarks.tokenizing VOCABULARY.gguf [--template FILE] [--lengths 1000,8000] [--json]

VOCABULARY is any GGUF file; its weights are not read. The conversation consists of this project's
own documentation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
from msgspec import Struct

from benchmarks.report import report, right
from llmengine.bench.report import Spread
from llmengine.chat.template import CHATML, ChatTemplate, Message
from llmengine.cli.table import number
from llmengine.llama import library
from llmengine.llama.tokenizer import Tokenizer

DOCS = Path(__file__).parent.parent / "docs"
TURN = 250  # characters of a question, and three times as many of an answer
ROUNDS = 15


class Row(Struct, frozen=True):
    vocabulary: int
    messages: int
    tokens: int
    render: Spread  # seconds
    tokenize: Spread


def conversation() -> Iterator[Message]:
    """Questions and answers without end."""
    text = "".join(path.read_text() for path in sorted(DOCS.glob("*.md")))
    place = 0
    while True:
        for role, length in (("user", TURN), ("assistant", 3 * TURN)):
            yield {"role": role, "content": (text + text)[place : place + length]}
            place = (place + length) % len(text)


def measure(template: ChatTemplate, tokenizer: Tokenizer, size: int, tokens: int) -> Row:
    """Of a conversation of at least so many tokens that ends with a question."""
    messages: list[Message] = []
    talk = conversation()
    while True:
        messages.append(next(talk))
        count = len(tokenizer.tokenize(template.render(messages), special=True, bos=False))
        if count >= tokens and messages[-1]["role"] == "user":
            break
    rendering, tokenizing = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        text = template.render(messages)
        rendered = time.perf_counter()
        tokenizer.tokenize(text, special=True, bos=False)
        tokenizing.append(time.perf_counter() - rendered)
        rendering.append(rendered - started)
    return Row(size, len(messages), count, Spread.of(rendering), Spread.of(tokenizing))


def load(path: Path) -> llama_cpp.llama_model_p:
    library.start()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise SystemExit(f"cannot load {path}: {library.last_error('it has no vocabulary')}")
    return model


COLUMNS = [
    right("vocabulary", lambda row: number(row.vocabulary)),
    right("messages", lambda row: row.messages),
    right("tokens", lambda row: number(row.tokens)),
    right("render, ms", lambda row: row.render.worded(1e-3)),
    right("tokenize, ms", lambda row: row.tokenize.worded(1e-3)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--template", type=Path, help="Jinja file; otherwise ChatML")
    parser.add_argument("--lengths", default="1000,2000,4000,8000")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    source = arguments.template.read_text() if arguments.template else CHATML
    template = ChatTemplate(source, "", "<|im_end|>")
    vocab = llama_cpp.llama_model_get_vocab(load(arguments.vocabulary))
    tokenizer, size = Tokenizer(vocab), llama_cpp.llama_vocab_n_tokens(vocab)
    lengths = [int(each) for each in arguments.lengths.split(",")]
    rows = [measure(template, tokenizer, size, tokens) for tokens in lengths]
    report(rows, COLUMNS, as_json=arguments.json)


if __name__ == "__main__":
    main()
