"""Threads that follow what a machine's other processes leave, on a machine that is made up."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from real import MODEL, chatml, config, request, run

from llmengine.engine.engine import Engine
from llmengine.engine.mix import Mix
from llmengine.engine.pacer import Pacer
from llmengine.engine.threads import Threads


class Machine:
    """Some cores, of which other processes keep some busy."""

    def __init__(self, cores: int = 2) -> None:
        self.busy = 0
        self.seconds = 0.0
        self.used: list[int] = []  # threads of each step
        self._cores = self._count = cores
        self._random = random.Random(cores)
        self.threads = Threads(cores, self._apply)

    def _apply(self, count: int) -> None:
        self._count = count

    def cost(self, rows: int, count: int) -> float:
        """Part of a step does not divide; with a core too few, every operation waits."""
        waits = 2.8 if count > self._cores - self.busy else 1.0
        return (0.016 + 0.012 * rows / count) * waits

    def step(self, rows: int) -> None:
        self.threads.prepare(prompts=False)
        self.used.append(self._count)
        seconds = self.cost(rows, self._count) * self._random.uniform(1, 1.1)
        self.seconds += seconds
        self.threads.observe(rows, seconds)

    def run(self, steps: int, *rows: int) -> list[int]:
        """The threads of so many steps, of any of `rows`."""
        for _ in range(steps):
            self.step(self._random.choice(rows))
        return self.used[-steps:]


def test_on_a_quiet_machine_nothing_is_lost() -> None:
    machine = Machine()
    used = machine.run(5000, 1, 4, 8)
    assert used.count(2) > 4940
    assert used[-1] == 2


def test_a_core_that_is_taken_is_given_up_within_a_few_steps() -> None:
    machine = Machine()
    machine.run(40, 1, 4)
    machine.busy = 1
    used = machine.run(40, 1, 4)
    assert used[12:].count(2) <= 2
    assert used[:12].count(2) <= 8


def test_while_it_is_taken_little_is_lost_on_trying() -> None:
    machine = Machine()
    machine.run(40, 1)
    machine.busy = 1
    machine.run(100, 1)
    machine.seconds = 0.0
    machine.run(3000, 1)
    least = 3000 * machine.cost(1, 1) * 1.05  # the average of what is added to a step
    assert machine.seconds < 1.03 * least


@pytest.mark.parametrize("taken", [20, 200, 2000])
def test_a_core_that_comes_back_is_used_again(taken: int) -> None:
    machine = Machine()
    machine.run(40, 1, 8)
    machine.busy = 1
    machine.run(taken, 1, 8)
    machine.busy = 0
    used = machine.run(200, 1, 8)
    assert used[150:] == [2] * 50


def test_a_machine_that_was_busy_from_the_start_is_found_out() -> None:
    machine = Machine()
    machine.busy = 1
    assert machine.run(50, 1)[-1] == 1


def test_of_many_cores_about_those_are_used_that_are_left() -> None:
    machine = Machine(8)
    machine.run(40, 4)
    machine.busy = 3
    used = machine.run(600, 4)
    assert sum(each > 5 for each in used[50:]) < 30
    assert sum(each in (4, 5) for each in used[50:]) > 500
    machine.busy = 0
    used = machine.run(600, 4)
    assert used[-100:].count(8) > 90


def test_a_machine_that_just_became_slow_keeps_its_threads() -> None:
    """As when its clock is lowered: one thread would only be slower still."""
    machine = Machine()
    machine.run(40, 1, 4)
    cost = machine.cost
    machine.cost = lambda rows, count: 2.5 * cost(rows, count)  # type: ignore[method-assign]
    used = machine.run(1000, 1, 4)
    assert used.count(2) > 950


def test_one_core_is_left_alone() -> None:
    machine = Machine(1)
    machine.run(100, 1)
    machine.busy = 1
    assert machine.run(1000, 1) == [1] * 1000


def test_prompts_are_computed_by_all_threads_and_not_compared() -> None:
    applied = [2]
    pacer = Pacer(0.4, 512, Threads(2, applied.append))
    prompts, decoding = [], []
    for step in range(1000):
        pacer.prepare(prompts=True)
        prompts.append(applied[-1])
        pacer.prefilled(Mix(1, 64), 0.1 * 1.1 ** (step % 50))
        pacer.prepare(prompts=False)
        decoding.append(applied[-1])
        pacer.decoded(1, 0.05 / applied[-1])  # two are twice as fast, but one is tried sometimes
    assert prompts == [2] * 1000
    assert 0 < decoding.count(1) < 30


@pytest.mark.model
def test_the_text_is_the_same_with_any_number_of_threads() -> None:
    ask = chatml("Tell me a story about a fox.")
    with Engine(config(MODEL, context_size=2048, threads=2, speculation="off")) as engine:
        assert engine.stats().threads == 2
        asked = request(engine, "a", ask, temperature=0)
        two = run(engine, [asked])["a"].text
        engine._context.set_threads(1)
        assert engine.stats().threads == 1
        assert run(engine, [asked])["a"].text == two


@pytest.mark.model
def test_threads_that_were_asked_for_stay() -> None:
    with Engine(config(MODEL, context_size=2048, threads=2)) as engine:
        assert engine._runner._pacer._threads is None
    with Engine(config(MODEL, context_size=2048)) as engine:
        assert engine._runner._pacer._threads is not None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "GOMP_SPINCOUNT = '1000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'"),
    ],
    ids=str,
)
def test_openmp_spins_for_a_moment_unless_it_is_told_otherwise(
    given: dict[str, str], expected: str
) -> None:
    inherited = {key: value for key, value in os.environ.items() if "OMP_" not in key}
    asked = {**inherited, **given, "OMP_DISPLAY_ENV": "verbose"}
    command = [sys.executable, "-c", "import llmengine.llama.library"]
    told = subprocess.run(command, env=asked, capture_output=True, text=True, check=True).stderr
    if "GOMP_" not in told:
        pytest.skip("llama.cpp was not built with GNU's OpenMP")
    assert expected in told
