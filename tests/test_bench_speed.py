"""Bare steps of a model: which tests there are, how they are timed, what share they take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from llmengine.bench import limits, local, speed, weights
from llmengine.bench.limits import Limits
from llmengine.bench.local import Found
from llmengine.bench.progress import Silent
from llmengine.bench.shapes import SHAPES
from llmengine.bench.speed import Plan, Trial
from llmengine.bench.stepper import Stepper
from llmengine.config import Config, ModelConfig, PerformanceConfig
from llmengine.errors import InvalidRequest, OutOfMemory
from llmengine.llama import device, library
from llmengine.llama.device import Device
from llmengine.llama.model import Model
from llmengine.llama.product import Product
from llmengine.llama.work import Work

WORK = Work(
    kind="q8_0",
    bytes=1000,
    expert_bytes=0,
    products=400,
    expert_products=0,
    output_products=100,
    attention=2,
)


class FakeStepper:
    """Tokens of a prompt take 1 ms, steps of decoding 10 ms; all but the first twice as long."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def _noted(self, seconds: float, *call: object) -> float:
        seconds *= 1 + (call in self.calls)
        self.calls.append(call)
        return seconds

    def deepen(self, tokens: int) -> None:
        self.calls.append(("deepen", tokens))

    def prefill(self, tokens: int) -> float:
        return self._noted(tokens * 0.001, "prefill", tokens)

    def decode(self, tokens: int) -> float:
        return self._noted(tokens * 0.01, "decode", tokens)

    def decode_together(self, streams: int, prompt: int, tokens: int) -> float:
        return self._noted(tokens * 0.01, "together", streams, prompt, tokens)


def test_tests_are_those_of_llama_bench() -> None:
    plan = Plan(depths=(0, 4096), batches=(1, 8))
    assert [trial.name for trial in plan.trials()] == [
        "pp512 @ d0",
        "tg128 @ d0",
        "pp512 @ d4096",
        "tg128 @ d4096",
        "tg32 together @ B=1",
        "tg32 together @ B=8",
    ]
    assert plan.cells == 4096 + 512
    assert [trial.name for trial in Plan(prompt=0, depths=(0,), batches=()).trials()] == [
        "tg128 @ d0"
    ]


def test_a_warm_up_does_not_count() -> None:
    stepper = FakeStepper()
    plan = Plan(prompt=100, generate=10, depths=(0, 50), batches=(4,), repetitions=2)
    found = list(speed.run(stepper, plan.trials(), plan, Silent()))  # type: ignore[arg-type]
    assert [(trial.name, rates) for trial, rates in found[:2]] == [
        ("pp100 @ d0", [500.0, 500.0]),
        ("tg10 @ d0", [50.0, 50.0]),
    ]
    assert found[4][1] == [200.0, 200.0]  # four streams of 32 tokens in 0.64 s
    assert stepper.calls[3:8] == [
        *[("decode", 10)] * 3,
        ("deepen", 50),
        ("prefill", 100),
    ]


def test_after_its_time_a_test_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 40))
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(now))
    plan = Plan(prompt=100, generate=0, depths=(0,), batches=(), repetitions=9, seconds=100)
    ((_, rates),) = speed.run(FakeStepper(), plan.trials(), plan, Silent())  # type: ignore[arg-type]
    assert len(rates) == 3


def test_a_stream_is_held_against_the_bandwidth() -> None:
    used = speed.share(Trial(10, 95, 1), 10.0, WORK, Limits(20_000, 1e6, "q8_0"), cell_bytes=5)
    # A token reads the weights and 100 cells, and multiplies 400 + 100 + 2 x 100 numbers.
    assert used.memory == 10 * (1000 + 500) / 20_000
    assert used.arithmetic == 10 * 2 * 700 / 1e6


def test_a_prompt_reads_the_weights_once() -> None:
    used = speed.share(Trial(100), 50.0, WORK, Limits(1000, 1e6, "q8_0"), cell_bytes=2)
    assert used.memory == pytest.approx(50 * (1000 + 50 * 2) / 100 / 1000)
    assert used.arithmetic == 50 * 2 * (100 * (400 + 2 * 50) + 100) / 100 / 1e6


def test_of_a_batch_each_stream_reads_its_cells() -> None:
    trial = Trial(20, streams=4, shared=90)
    used = speed.share(trial, 8.0, WORK, Limits(1000, 1e6, "q8_0"), cell_bytes=1)
    assert used.memory == 8 * (1000 + 4 * 100) / 4 / 1000


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = weights.write(tmp_path_factory.mktemp("model") / "tiny.gguf", SHAPES["tiny"])
    return Config(
        model=ModelConfig(model_path=str(path), context_size=512),
        performance=PerformanceConfig(threads=1, prefill_batch=64),
    )


@pytest.fixture
def stepper(config: Config) -> Iterator[Stepper]:
    model = Model(Path(config.model.model_path), config)
    with closing(model), closing(Stepper(model, config, cells=256, sequences=4, threads=1)) as one:
        yield one


def test_steps_begin_where_the_depth_ends(stepper: Stepper) -> None:
    """As long as nothing is left over, as many repetitions have room as are wanted."""
    stepper.deepen(100)
    for _ in range(3):
        assert stepper.prefill(150) > 0
        assert stepper.decode(120) > 0
    stepper.deepen(0)
    assert stepper.prefill(256) > 0
    assert stepper.decode_together(4, 100, 30) > 0
    assert stepper.decode(256) > 0


def test_the_limits_are_those_of_this_machine(config: Config) -> None:
    model = Model(Path(config.model.model_path), config)
    with closing(model):
        work = local.work_of(model)
        found = limits.measure(model, work, config, 1, wide=SHAPES["tiny"])
    assert found.kind == "q8_0"
    assert 1e6 < found.bandwidth < 1e13
    assert 1e6 < found.arithmetic < 1e15


@pytest.fixture
def cpu() -> Device:
    """llama.cpp's CPU, which takes a GPU's place here."""
    library.start()
    return device._device(device._functions().ggml_backend_dev_get(0))


def test_a_device_multiplies(cpu: Device) -> None:
    ones = np.ones(32, np.float32)
    with closing(Product(cpu, Type.F32, ones.view(np.uint8), 32, 2)) as product:
        assert product.run() > 0
        assert (product.bytes, product.operations) == (32 * 32 * 4, 2 * 32 * 32 * 2)
        rows = product.result(2 * 32).reshape(2, 32)
    numbers = np.random.default_rng(0).standard_normal((2, 32), np.float32)
    assert rows == pytest.approx(np.repeat(numbers.sum(axis=1), 32).reshape(2, 32), abs=1e-5)


def test_the_limits_of_a_gpu_are_those_of_single_products(
    cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GPU_SECONDS", 0.0)
    found = limits.of_device(cpu, "q4_k", side=256, columns=32)
    assert found.kind == "q4_k"
    assert 1e6 < found.bandwidth < 1e13
    assert 1e6 < found.arithmetic < 1e15


def test_a_device_without_room_is_told(cpu: Device) -> None:
    with pytest.raises(OutOfMemory, match="CPU has no room for what measures it"):
        Product(cpu, Type.F32, np.ones(4, np.uint8), 1 << 28, 1)


def test_what_the_context_has_no_room_for_is_left_out(config: Config) -> None:
    found = Found()
    plan = Plan(prompt=8, generate=4, depths=(0, 40_000), batches=(2,), repetitions=1)
    local.measure(config, plan, found, Silent(), with_limits=False)
    assert [row.name for row in found.rows] == ["pp8 @ d0", "tg4 @ d0", "tg32 together @ B=2"]
    assert found.target.startswith("tiny.gguf, qwen2")
    assert found.notes == [
        "left out, beyond the model's context of 32768 tokens: pp8 @ d40000, tg4 @ d40000"
    ]
    assert all(row.figures["tokens_per_second"].least > 0 for row in found.rows)


def test_shares_beyond_the_limits_are_explained(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Limits(bandwidth=1.0, arithmetic=1.0, kind="q8_0")
    monkeypatch.setattr(limits, "measure", lambda *_: slow)
    found = Found()
    plan = Plan(prompt=8, generate=4, depths=(0,), batches=(), repetitions=1)
    local.measure(config, plan, found, Silent())
    assert found.notes[1:] == [local.BUSY]
    assert found.rows[0].figures["arithmetic_share"].median > 1


def test_nothing_to_measure_is_told(config: Config) -> None:
    plan = Plan(prompt=0, generate=0, batches=())
    with pytest.raises(InvalidRequest, match="there is nothing to measure"):
        local.measure(config, plan, Found(), Silent())
