"""Whether a model fits is found out before it is loaded, and what is said if it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import real
import tiny_models

from llmengine import hardware, usage
from llmengine.config import Config
from llmengine.engine import fit
from llmengine.engine.engine import Engine
from llmengine.errors import OutOfMemory
from llmengine.hardware import Memory
from llmengine.llama import library
from llmengine.llama.context import Context
from llmengine.llama.device import Device
from llmengine.llama.footprint import DryModel, Footprint
from llmengine.llama.model import Model
from llmengine.llama.tensors import EMBEDDINGS, read
from llmengine.settings import load

MEBIBYTE = 1 << 20
KINDS: dict[str, Callable[[Path], Path]] = {
    "embedded": lambda _: real.MODEL,
    "sliding": tiny_models.sliding_window,
    "hybrid": tiny_models.hybrid,
}
BUFFER = re.compile(r" (KV|RS|compute|output) buffer size = +([\d.]+) MiB")


def free(monkeypatch: pytest.MonkeyPatch, mebibytes: float) -> None:
    found = Memory(total=64 << 30, available=int(mebibytes * MEBIBYTE))
    monkeypatch.setattr(hardware, "memory", lambda: found)


def footprint(config: Config, cells: int, path: Path = real.MODEL) -> Footprint:
    model = DryModel(path, config)
    try:
        return model.footprint(config, cells=cells, sequences=20, threads=1)
    finally:
        model.close()


@pytest.mark.model
@pytest.mark.parametrize(
    ("kind", "kv_type"), [*((kind, "f16") for kind in KINDS), ("embedded", "q8_0")]
)
def test_what_is_foreseen_is_what_is_allocated(tmp_path: Path, kind: str, kv_type: str) -> None:
    path = KINDS[kind](tmp_path / "model.gguf")
    config = real.config(path, kv_type=kv_type, flash_attention="on")
    foreseen = footprint(config, 2048, path)
    model = Model(path, config)
    with library.listening() as lines:
        Context(model, config, cells=2048, sequences=20, threads=1).close()
    weights = model.size_bytes
    model.close()
    allocated = dict.fromkeys(("KV", "RS", "compute", "output"), 0.0)
    for name, size in BUFFER.findall("\n".join(lines)):
        allocated[name] += float(size)
    assert allocated["KV"] > 0
    assert (allocated["RS"] > 0) == (kind == "hybrid")
    # To the digits that llama.cpp prints.
    near = {"abs": 0.03 * MEBIBYTE}
    assert foreseen.weights == weights
    state, compute = allocated["KV"] + allocated["RS"], allocated["compute"] + allocated["output"]
    assert foreseen.state == pytest.approx(state * MEBIBYTE, **near)
    assert foreseen.compute == pytest.approx(compute * MEBIBYTE, **near)
    assert foreseen.host == foreseen.weights + foreseen.state + foreseen.compute


@pytest.mark.model
def test_planning_takes_no_memory() -> None:
    config = real.config()
    footprint(config, 1024)
    before = usage.process().memory_bytes
    foreseen = footprint(config, 1 << 20)
    assert foreseen.state == 2560 * (1 << 20)
    assert usage.process().memory_bytes - before < 64 * MEBIBYTE


@pytest.mark.model
def test_the_process_takes_no_more_than_was_foreseen() -> None:
    config = real.config(context_size=32_768)
    foreseen = footprint(config, 32_768).host + fit.OVERHEAD
    before = usage.process().memory_bytes
    with Engine(config) as engine:
        asked = [real.request(engine, str(at), f"{at} " * 900, max_tokens=4) for at in range(4)]
        real.run(engine, asked)
        assert usage.process().memory_bytes - before <= foreseen


def test_nothing_is_asked_where_there_is_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "DryModel", None)
    free(monkeypatch, 2000)
    assert fit.cells(real.MODEL, real.config()) is None
    free(monkeypatch, 1)
    assert fit.cells(real.MODEL, real.config(memory_check=False)) is None


@pytest.mark.model
def test_what_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 400)
    assert fit.cells(real.MODEL, real.config(context_size=4096)) == 4096


@pytest.mark.model
def test_a_context_of_our_own_choice_becomes_smaller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free(monkeypatch, 90)
    config = real.config(slots=4)
    found = fit.cells(real.MODEL, config)
    assert found is not None
    assert 256 <= found < 8192
    assert f"there is memory for a KV cache of {found} tokens" in caplog.text
    with Engine(config) as engine:
        assert engine.info().context_size == found


def refusal(config: Config) -> str:
    with pytest.raises(OutOfMemory) as caught:
        fit.cells(Path(config.model.model_path), config)
    return caught.value.message


@pytest.mark.model
def test_a_refusal_has_the_numbers_and_settings_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 350)
    wanted: dict[str, Any] = {"context_size": 100_000, "flash_attention": "on"}
    config = real.config(**wanted)
    need = fit.Plan([model := DryModel(real.MODEL, config)], config, fit.Free(0, 0))._need(
        config, 100_000
    )
    model.close()
    told = refusal(config)
    assert told.startswith(
        f"tiny-chat.gguf needs {(need.host + fit.OVERHEAD) / 2**30:.2f} GiB of memory and "
        f"0.34 GiB are free (weights 0.01 GiB, KV cache of 100000 tokens 0.24 GiB, buffers "
    )
    assert told.endswith("; performance.memory_check = false tries it as it is")
    remedies = re.findall(r"with (\w+\.\w+ = \S+?)(?:,|;)", told)
    keys = [each.partition(" = ")[0] for each in remedies]
    assert keys == ["model.context_size", "model.kv_type", "performance.prefill_batch"]
    for remedy in remedies:
        _, _, key = remedy.partition(" ")[0].partition(".")
        value: Any = remedy.partition(" = ")[2].strip('"')
        changed = real.config(**{**wanted, key: int(value) if value.isdigit() else value})
        assert fit.cells(real.MODEL, changed) == changed.model.context_size
    largest = int(remedies[0].rpartition(" ")[2])
    assert "KV cache" in refusal(real.config(**{**wanted, "context_size": largest + fit.STEP}))


@pytest.mark.model
def test_where_nothing_helps_a_smaller_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 5)
    told = refusal(real.config())
    assert "it fits with a smaller model or a smaller quantization;" in told


@pytest.mark.model
def test_fewer_slots_help_where_each_has_a_state_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tiny_models.hybrid(tmp_path / "model.gguf")
    config = real.config(path, context_size=256, max_concurrent_requests=128, max_sequences=0)
    few = real.config(path, context_size=256, max_concurrent_requests=32, max_sequences=0)

    def need(config: Config) -> int:
        model = DryModel(path, config)
        try:
            return fit.Plan([model], config, fit.Free(0, 0))._need(config, 256).host + fit.OVERHEAD
        finally:
            model.close()

    assert need(few) < need(config)
    free(monkeypatch, need(few) / MEBIBYTE)
    assert "with server.max_concurrent_requests = 32" in refusal(config)


@pytest.mark.model
def test_the_ceiling_of_the_process_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64_000)
    own = usage.process().memory_bytes // MEBIBYTE
    fits = real.config(context_size=1024, memory_ceiling_mb=own + 200)
    assert fit.cells(real.MODEL, fits) == 1024
    assert "0.05 GiB are free" in refusal(real.config(memory_ceiling_mb=own + 52))


@pytest.mark.model
def test_a_projector_counts_as_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "mmproj.gguf"
    with path.open("wb") as file:
        file.truncate(300 * MEBIBYTE)  # a hole: it takes no disk
    free(monkeypatch, 250)
    assert fit.cells(real.MODEL, real.config(context_size=4096)) == 4096
    told = refusal(real.config(context_size=4096, mmproj=str(path)))
    assert "(weights 0.30 GiB, KV cache of 4096 tokens 0.01 GiB" in told


def test_gpus_are_asked_for_what_lies_on_them() -> None:
    need = Footprint(weights=900, state=140, compute=7, device_compute=5, input=40, share=0.75)
    assert (need.host, need.device) == (40 + 250 + 7, 755)
    exact = fit.Free(297 + fit.OVERHEAD, 755 + fit.DEVICE_OVERHEAD)
    assert exact.holds(need)
    assert not fit.Free(exact.host - 1, exact.device).holds(need)
    assert not fit.Free(exact.host, exact.device - 1).holds(need)
    both = need + Footprint(weights=1000, state=0, compute=1, device_compute=1)
    assert (both.host, both.device) == (297 + 1001, 755 + 1)
    assert fit.Free(2000 + fit.OVERHEAD, 0).holds(Footprint(weights=1000, state=900, compute=9))


@pytest.mark.model
@pytest.mark.parametrize(("layers", "copies"), [(0, 0), (-1, 1)])
def test_embeddings_that_are_the_output_too_lie_twice_beside_a_gpu(
    layers: int, copies: int
) -> None:
    """Without layers on it there is no output on it either."""
    config = real.config(gpu_layers=layers)
    alone = footprint(config, 1024)
    with closing(DryModel(real.MODEL, config)) as model:
        model.devices = [Device("CUDA0", "a GPU", 1, 1, 0)]
        beside = model.footprint(config, cells=1024, sequences=20, threads=1)
    [embeddings] = [each.bytes for each in read(real.MODEL) if each.name == EMBEDDINGS]
    assert beside.weights == alone.weights + copies * embeddings
    assert beside.host - beside.compute == (1 - copies) * (alone.weights + alone.state) + (
        copies * embeddings
    )


@pytest.mark.model
def test_it_is_one_line_and_an_exit_code() -> None:
    flags = ["--set", "model.context_size=16777216", "-m", str(real.MODEL)]
    limit = ["--set", "performance.memory_ceiling_mb=2000"]
    done = subprocess.run(
        [sys.executable, "-m", "llmengine", "run", *flags, *limit, "hi"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(
        r"error: tiny-chat\.gguf needs [\d.]+ GiB of memory and 1\.\d\d GiB are free .*"
        r"model\.context_size = \d+.*\n",
        done.stderr,
    )


def test_the_check_can_be_turned_off() -> None:
    assert (
        load(assignments=["performance.memory_check=false"]).config.performance.memory_check
        is False
    )
