"""Trains the network on the CPU: Muon for the matrices, AdamW for the rest.

Two processes of one thread each compute half of a batch and add up their gradients: that shares
busy cores far better than two threads which wait for each other at every matrix.

The rate follows straight lines between the points of `--rate`. `--resume` goes on from the
checkpoint, so that changing what is ahead needs no new start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from model import Model, Shape

MICRO_TOKENS = 4096
WORKERS = 2
POOL = 3000
MUON_RATE, ADAM_RATE = 0.02, 3e-3


class Batches:
    """Documents of like length side by side, so that little is padding and none is packed."""

    def __init__(self, path: Path, seed: int) -> None:
        data = np.load(path)
        self.tokens, self.weights = data["tokens"], data["weights"]
        self.offsets, self.seed = data["offsets"], seed

    def _pool(self, first: int, rng: np.random.Generator) -> list[np.ndarray]:
        last = min(first + POOL, len(self.offsets) - 1)
        documents = np.arange(first, last)
        lengths = self.offsets[documents + 1] - self.offsets[documents]
        batches, current = [], []
        for index in np.argsort(-lengths, kind="stable"):
            longest = lengths[index] if not current else lengths[current[0] - first]
            if current and (len(current) + 1) * longest > MICRO_TOKENS:
                batches.append(np.array(current))
                current = []
            current.append(first + index)
        batches.append(np.array(current))
        return [batches[i] for i in rng.permutation(len(batches))]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(self.seed)
        while True:
            for first in range(0, len(self.offsets) - 1, POOL):
                for batch in self._pool(first, rng):
                    yield self._stack(batch)

    def _stack(self, batch: np.ndarray) -> tuple[Tensor, Tensor]:
        spans = [(self.offsets[i], self.offsets[i + 1]) for i in batch]
        longest = max(b - a for a, b in spans)
        ids = np.zeros((len(spans), longest), np.int64)
        weights = np.zeros((len(spans), longest), np.float32)
        for row, (a, b) in enumerate(spans):
            ids[row, : b - a] = self.tokens[a:b]
            weights[row, : b - a] = self.weights[a:b] / 100
        return torch.from_numpy(ids), torch.from_numpy(weights)


def orthogonal(update: Tensor) -> Tensor:
    """Newton-Schulz: the nearest orthogonal matrix, nearly."""
    x = update.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        """Each worker orthogonalizes its share of the matrices; the sum gives all to all."""
        for group in self.param_groups:
            updates = [torch.zeros_like(p) for p in group["params"]]
            for index, p in enumerate(group["params"]):
                state = self.state[p]
                average = state.setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                if index % WORKERS == dist.get_rank():
                    updates[index] = orthogonal(p.grad.lerp(average, group["momentum"]))
            add_up(updates)
            for p, update in zip(group["params"], updates, strict=True):
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def add_up(tensors: list[Tensor]) -> None:
    """Sums each tensor over the workers, in place."""
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def parse_rate(text: str) -> tuple[list[int], list[float]]:
    """`60:1 1600:0` becomes ([0, 60, 1600], [0, 1, 0]): steps, and factors of the rate."""
    points = [point.split(":") for point in text.split()]
    return [0] + [int(p[0]) for p in points], [0.0] + [float(p[1]) for p in points]


def loss_of(model: torch.nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()


def work(rank: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    meeting = arguments.out / "meeting"
    dist.init_process_group("gloo", f"file://{meeting.resolve()}", rank=rank, world_size=WORKERS)
    torch.manual_seed(arguments.seed)
    vocabulary = int(np.load(arguments.out / "vocabulary.npy"))
    model = Model(Shape(vocabulary))
    matrices = [p for p in model.blk.parameters() if p.ndim == 2]
    chosen = set(matrices)
    others = [p for p in model.parameters() if p not in chosen]
    optimizers = [Muon(matrices, lr=MUON_RATE),
                  torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]
    checkpoint, first, seen, seconds = arguments.out / "checkpoint.pt", 0, 0, 0.0
    if arguments.resume:
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first, seen, seconds = saved["step"], saved["tokens"], saved["seconds"]

    def save(step: int) -> None:
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "step": step, "tokens": seen,
                    "seconds": seconds, "shape": model.shape,
                    "optimizers": [o.state_dict() for o in optimizers]}, temporary)
        temporary.rename(checkpoint)

    batches = iter(Batches(arguments.out / arguments.data, arguments.seed))
    for _ in range(first * WORKERS):
        next(batches)
    mean, clock = None, time.monotonic()
    points, factors = parse_rate(arguments.rate)
    for step in range(first, points[-1]):
        factor = float(np.interp(step, points, factors))
        for optimizer, base in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = base * factor
        ids, weights = [next(batches) for _ in range(WORKERS)][rank]
        loss = loss_of(model, ids, weights)
        loss.backward()
        sums = torch.stack((loss.detach(), weights[:, 1:].sum(), torch.tensor(ids.numel())))
        gradients = [p.grad for p in model.parameters()]
        add_up([*gradients, sums])
        value, tokens = float(sums[0] / sums[1]), int(sums[2])
        for gradient in gradients:
            gradient.div_(sums[1])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seen += tokens
        mean = value if mean is None else 0.95 * mean + 0.05 * value
        now = time.monotonic()
        seconds, clock = seconds + now - clock, now
        if rank == 0 and step % 20 == 19:
            print(f"step {step + 1} loss {mean:.4f} tokens {seen:,} minutes {seconds / 60:.1f} "
                  f"rate {factor:.2f}", flush=True)
        if rank == 0 and ((step + 1) % arguments.save_every == 0 or step + 1 == points[-1]):
            save(step + 1)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="data.npz")
    parser.add_argument("--rate", required=True, help='points as "step:factor step:factor"')
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    (arguments.out / "meeting").unlink(missing_ok=True)
    torch.multiprocessing.spawn(work, (arguments,), nprocs=WORKERS)


if __name__ == "__main__":
    main()
