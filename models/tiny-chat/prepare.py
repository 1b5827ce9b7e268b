"""Generates and tokenizes the training set once, so that training never waits for data."""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from conversation import Renderer
from generate import training

LONGEST = 4096
OTHER_WEIGHT = 5  # per cent: what is not the assistant's is learned only a little
CHUNK = 2000
EASY_CHUNKS = 0.12  # first share of the chunks: easy stage, with drills
DRILLS_PER_CHUNK = 1500


def _weights(ids: list[int], start: list[int], end: int, think: int) -> list[int]:
    """100 on the assistant's tokens up to its end mark. The prefilled <think> is not its own."""
    weights = [OTHER_WEIGHT] * len(ids)
    position, size = 0, len(start)
    while position < len(ids):
        if ids[position : position + size] != start:
            position += 1
            continue
        position += size
        if ids[position] == think:
            position += 2
        while ids[position] != end:
            weights[position] = 100
            position += 1
        weights[position] = 100
    return weights


def _drill(rng: Random, vocabulary: int) -> tuple[list[int], list[int]]:
    """Random tokens said again: the plainest lesson in copying from context."""
    size = rng.randint(8, 64)
    piece = [rng.randrange(vocabulary) for _ in range(size)]
    times = rng.randint(2, 4)
    return piece * times, [0] * size + [100] * (size * (times - 1))


def _chunk(task: tuple[int, bool, str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    seed, easy, folder = task
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    renderer, rng = Renderer(), Random(seed)
    start = tokenizer.encode("<|im_start|>assistant\n").ids
    end, think = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<think>")
    tokens, weights = [], []
    for conversation in training(seed, CHUNK, easy):
        ids = tokenizer.encode(renderer.full(conversation, rng.random() < 0.5)).ids
        if len(ids) <= LONGEST:
            tokens.append(np.array(ids, np.uint16))
            weights.append(np.array(_weights(ids, start, end, think), np.uint8))
    for _ in range(DRILLS_PER_CHUNK if easy else 0):
        ids, mask = _drill(rng, tokenizer.get_vocab_size() - 9)
        tokens.append(np.array(ids, np.uint16))
        weights.append(np.array(mask, np.uint8))
    order = rng.sample(range(len(tokens)), len(tokens))
    return [tokens[i] for i in order], [weights[i] for i in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    easy = round(arguments.chunks * EASY_CHUNKS)
    tasks = [(arguments.seed * 1000 + i, i < easy, str(arguments.out))
             for i in range(arguments.chunks)]
    with Pool(2) as pool:
        parts = pool.map(_chunk, tasks, chunksize=1)
    tokens = [t for part in parts for t in part[0]]
    weights = [w for part in parts for w in part[1]]
    offsets = np.cumsum([0] + [len(t) for t in tokens])
    np.savez(arguments.out / "data.npz", tokens=np.concatenate(tokens),
             weights=np.concatenate(weights), offsets=offsets)
    tokenizer = Tokenizer.from_file(str(arguments.out / "tokenizer.json"))
    np.save(arguments.out / "vocabulary.npy", tokenizer.get_vocab_size())
    answers = sum(int((w == 100).sum()) for w in weights)
    print(f"{len(tokens)} conversations, {offsets[-1]:,} tokens, {answers:,} of answers")


if __name__ == "__main__":
    main()
