"""A model's speed as `llama-bench` and `llama-batched-bench` define it, beside the limits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from llmengine.bench.limits import Limits
from llmengine.bench.progress import Progress
from llmengine.bench.report import Row, Spread
from llmengine.bench.stepper import Stepper
from llmengine.llama.work import Work

BATCH_PROMPT, BATCH_TOKENS = 128, 32  # of each stream of a batch


class Trial(Struct, frozen=True):
    """`tokens` of a prompt or of each of `streams`, behind `depth` others."""

    tokens: int
    depth: int = 0
    streams: int = 0  # 0: a prompt
    shared: int = 0  # tokens of a prompt that all streams have; no other trial has one

    @property
    def group(self) -> str:
        """`pp512` or `tg128`, as llama-bench has them."""
        kind = "tg" if self.streams else "pp"
        return f"{kind}{self.tokens}" + (" together" if self.shared else "")

    @property
    def load(self) -> str:
        return f"B={self.streams}" if self.shared else f"d{self.depth}"

    @property
    def name(self) -> str:
        return f"{self.group} @ {self.load}"

    @property
    def count(self) -> int:
        """Tokens that are computed in all."""
        return self.tokens * max(1, self.streams)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return self.depth + self.shared + self.tokens

    @property
    def cells(self) -> int:
        return self.depth + self.shared + self.count


class Share(Struct, frozen=True):
    """How much of the machine's limits a rate takes."""

    memory: float
    arithmetic: float


class Plan(Struct, frozen=True, kw_only=True):
    prompt: int = 512
    generate: int = 128
    depths: tuple[int, ...] = (0, 4096)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    repetitions: int = 5
    seconds: float = 60.0  # after which a trial is not repeated again

    def trials(self) -> list[Trial]:
        found = []
        for depth in self.depths:
            found += [Trial(self.prompt, depth)] if self.prompt else []
            found += [Trial(self.generate, depth, 1)] if self.generate else []
        return found + [
            Trial(BATCH_TOKENS, streams=streams, shared=BATCH_PROMPT) for streams in self.batches
        ]

    @property
    def cells(self) -> int:
        """Of the KV cache."""
        return max((trial.cells for trial in self.trials()), default=0)


def run(
    stepper: Stepper, trials: Sequence[Trial], plan: Plan, progress: Progress
) -> Iterator[tuple[Trial, list[float]]]:
    """Each trial with its tokens per second, by repetition."""
    depth = 0
    for trial in trials:
        progress.begin(trial.name, plan.repetitions + 1)
        if trial.depth != depth:
            stepper.deepen(trial.depth)
            depth = trial.depth
        started = time.monotonic()
        _seconds(stepper, trial)  # warms up
        progress.advance()
        rates: list[float] = []
        while len(rates) < plan.repetitions:
            if rates and time.monotonic() - started > plan.seconds:
                break
            rates.append(trial.count / _seconds(stepper, trial))
            progress.advance()
        yield trial, rates


def _seconds(stepper: Stepper, trial: Trial) -> float:
    if trial.shared:
        return stepper.decode_together(trial.streams, trial.shared, trial.tokens)
    return stepper.decode(trial.tokens) if trial.streams else stepper.prefill(trial.tokens)


def share(trial: Trial, rate: float, work: Work, limits: Limits, cell_bytes: int) -> Share:
    """How much of the machine a trial used that computed `rate` tokens per second."""
    before = trial.depth + trial.shared + trial.tokens / 2  # tokens, on average
    outputs = trial.count if trial.streams else 1
    operations = work.operations(trial.count, outputs, before) / trial.count
    rows = trial.streams or trial.count
    # A prompt's cells are read once in a batch, those of each stream in each step.
    cells = before * cell_bytes * max(1, trial.streams)
    read = (work.read_by(rows) + cells) / rows
    return Share(rate * read / limits.bandwidth, rate * operations / limits.arithmetic)


def row(trial: Trial, rates: Sequence[float], used: Share | None) -> Row:
    figures = {"tokens_per_second": Spread.of(rates)}
    if used:
        figures["memory_share"] = Spread.of([used.memory])
        figures["arithmetic_share"] = Spread.of([used.arithmetic])
    return Row(group=trial.group, load=trial.load, figures=figures)
