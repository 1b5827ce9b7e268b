"""Generates and tokenizes the training set once, so that training never waits for data."""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from conversation import Renderer
from fillers import Fillers
from generate import training
from skills import arithmetic

LONGEST = 4096
OTHER_WEIGHT = 5  # per cent: what is not the assistant's is learned only a little
CHUNK = 2000
EASY_UNTIL, HARD_FROM = 5, 10  # chunks
COPY_DRILLS = 1500  # documents in a chunk of the easy stage
SUM_DRILLS = 500  # documents in a chunk of the hard stage


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


def _copy_drill(rng: Random, vocabulary: int) -> tuple[list[int], list[int]]:
    """Random tokens said again: the plainest lesson in copying from context."""
    size = rng.randint(8, 64)
    piece = [rng.randrange(vocabulary) for _ in range(size)]
    times = rng.randint(2, 4)
    return piece * times, [0] * size + [100] * (size * (times - 1))


def _sum_drill(rng: Random, fillers: Fillers, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Sums alone, as the answers say them: three times as many for the same work."""
    ids: list[int] = []
    weights: list[int] = []
    for _ in range(24):
        a, operator, b = arithmetic.draw(rng, fillers)
        asked = tokenizer.encode(f"{a} {operator} {b} =").ids
        told = tokenizer.encode(f" {arithmetic.result(a, operator, b)}.\n").ids
        ids += asked + told
        weights += [OTHER_WEIGHT] * len(asked) + [100] * len(told)
    return ids, weights


def _chunk(task: tuple[int, str, str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    seed, stage, folder = task
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    renderer, rng = Renderer(), Random(seed)
    start = tokenizer.encode("<|im_start|>assistant\n").ids
    end, think = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<think>")
    tokens, weights = [], []
    for conversation in training(seed, CHUNK, stage):
        ids = tokenizer.encode(renderer.full(conversation, rng.random() < 0.5)).ids
        if len(ids) <= LONGEST:
            tokens.append(np.array(ids, np.uint16))
            weights.append(np.array(_weights(ids, start, end, think), np.uint8))
    drills: list[tuple[list[int], list[int]]] = []
    if stage == "easy":
        size = tokenizer.get_vocab_size() - 9
        drills = [_copy_drill(rng, size) for _ in range(COPY_DRILLS)]
    elif stage == "hard":
        fillers = Fillers(held_out=False)
        drills = [_sum_drill(rng, fillers, tokenizer) for _ in range(SUM_DRILLS)]
    for ids, mask in drills:
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
    tasks = [
        (arguments.seed * 1000 + i,
         "easy" if i < EASY_UNTIL else "even" if i < HARD_FROM else "hard", str(arguments.out))
        for i in range(arguments.chunks)
    ]
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
