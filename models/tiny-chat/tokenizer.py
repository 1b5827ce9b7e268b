"""Trains the byte-level BPE tokenizer on generated text.

A word has the same tokens with and without the space before it: merges are learned on words
alone, and only common whole words then get a token with the space. Copying a made-up word is
thus the same tokens again, which a small model learns much sooner.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from conversation import Renderer
from generate import training

# llama.cpp's "qwen2" pre-tokenizer, the same expression.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISIBLE = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>",
           "</tool_response>")
WORD_MERGES = 560
SPACED_WORDS = 360
PUNCTUATION = (" -", " +", " =", ' "', ":\n", ".\n", "\n\n", ' {"', '":', '",', '"}', '"},',
               " <", "...", "},", " {")
SPACE = "Ġ"


def _sample_texts(count: int) -> list[str]:
    renderer = Renderer()
    return [renderer.full(c) for c in training(seed=99, count=count, stage="easy")]


def _word_merges(counts: Counter[str]) -> list[tuple[str, str]]:
    """BPE merges of bare words, with counts damped so that fillers stay in pieces."""
    trainer_model = Tokenizer(BPE())
    trainer_model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                           use_regex=False)
    trainer = BpeTrainer(vocab_size=256 + WORD_MERGES, show_progress=False,
                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    trainer_model.train_from_iterator(
        (word for word, n in counts.items() for _ in range(min(n, 60))), trainer
    )
    merges = json.loads(trainer_model.to_str())["model"]["merges"]
    return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in merges]


def build(texts: list[str]) -> Tokenizer:
    splitter = pre_tokenizers.Split(Regex(QWEN2), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words: Counter[str] = Counter()
    spaced: Counter[str] = Counter()
    for text in texts:
        for piece, _ in splitter.pre_tokenize_str(text):
            if piece.isalpha():
                words[piece] += 1
            elif piece[0] == " " and piece[1:].isalpha():
                words[piece[1:]] += 1
                spaced[piece[1:]] += 1
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _word_merges(words)
    tokens = list(dict.fromkeys(alphabet + ["".join(m) for m in merges]))
    known = set(tokens)
    for word, _ in spaced.most_common():
        if len(merges) >= WORD_MERGES + SPACED_WORDS:
            break
        if len(word) > 1 and word in known:
            merges.append((SPACE, word))
            tokens.append(SPACE + word)
    for mark in PUNCTUATION:
        piece = to_bytes.pre_tokenize_str(mark)[0][0]
        built = piece[0]
        for symbol in piece[1:]:
            if built + symbol not in tokens:
                merges.append((built, symbol))
                tokens.append(built + symbol)
            built += symbol
    tokens += [*CONTROL, *VISIBLE]
    tokenizer = Tokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitter, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in VISIBLE])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6000)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    texts = _sample_texts(arguments.samples)
    tokenizer = build(texts)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    sizes = [len(e.ids) for e in tokenizer.encode_batch(texts[:1000])]
    characters = sum(map(len, texts[:1000]))
    print(f"{tokenizer.get_vocab_size()} tokens, {characters / sum(sizes):.2f} characters a token")


if __name__ == "__main__":
    main()
