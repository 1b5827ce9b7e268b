"""Models of random weights: their shapes, their types, and whether they have room."""

from __future__ import annotations

from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from llmengine.bench import fit, layout, shapes, weights
from llmengine.bench.blocks import KINDS, pool
from llmengine.bench.shapes import SHAPES, Shape
from llmengine.config import Config
from llmengine.errors import InvalidRequest, OutOfMemory
from llmengine.llama.context import Context, Status
from llmengine.llama.model import Model
from llmengine.llama.tensors import read
from llmengine.llama.work import counted, work_of

TINY = msgspec.structs.replace(SHAPES["tiny"], width=256, ffn=512)


@pytest.mark.parametrize("name", KINDS)
def test_random_blocks_have_the_spread_that_was_asked_for(name: str) -> None:
    kind = KINDS[name]
    data = pool(kind, 0.02, 1 << 18, np.random.default_rng(0))
    blocks = data.reshape(-1, kind.size)
    if kind.scales:
        values = gguf.quants.dequantize(blocks, kind.type)
    else:
        values = gguf.quants.dequantize(data, kind.type)
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(0.02, rel=0.1)
    assert abs(values.mean()) < 0.004


@pytest.mark.parametrize("kind", [*KINDS, *layout.MIXES])
def test_llama_cpp_computes_with_every_kind(tmp_path: Path, kind: str) -> None:
    _check(tmp_path, TINY, kind)


@pytest.mark.parametrize(
    "shape",
    [
        msgspec.structs.replace(TINY, architecture="llama", tied=False),
        msgspec.structs.replace(TINY, architecture="qwen3", head=64),
        msgspec.structs.replace(TINY, architecture="qwen3moe", experts=8, experts_used=2),
    ],
    ids=lambda shape: shape.architecture,
)
def test_llama_cpp_computes_every_architecture(tmp_path: Path, shape: Shape) -> None:
    _check(tmp_path, shape, "q4_k")


def _check(folder: Path, shape: Shape, kind: str) -> None:
    path = weights.write(folder / "model.gguf", shape, kind)
    model = Model(path, Config())
    context = Context(model, Config(), cells=256, sequences=1, threads=1)
    try:
        assert model.size_bytes == layout.size(shape, kind)
        assert sum(tensor.bytes for tensor in read(path)) == layout.size(shape, kind)
        assert model.vocabulary == shape.vocabulary
        context.batch.clear()
        context.batch.add(0, 0, range(40), True)
        assert context.decode() is Status.OK
        logits = context.logits(1)[0]
        assert np.isfinite(logits).all()
        assert 0.3 < logits.std() < 3
    finally:
        context.close()
        model.close()


def test_what_a_model_writes_is_read_as_the_same_tokens(tmp_path: Path) -> None:
    shape = msgspec.structs.replace(TINY, vocabulary=30_000)
    model = Model(weights.write(tmp_path / "model.gguf", shape, "q8_0"), Config())
    tokens = np.random.default_rng(0).integers(256, 30_000 - 2, 500).tolist()
    text = model.detokenize(tokens)
    assert model.tokenize(text) == tokens
    assert len(model.tokenize(" red fox")) == 2
    chat = "<|im_start|>user\n red<|im_end|>"
    assert len(model.tokenize(chat, special=True)) == 1 + 5 + 1 + 1
    assert model.end_tokens == {30_000 - 1}
    model.close()


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    first = weights.write(tmp_path / "a.gguf", SHAPES["tiny"], "q8_0").read_bytes()
    assert weights.write(tmp_path / "b.gguf", SHAPES["tiny"], "q8_0").read_bytes() == first
    other = weights.write(tmp_path / "c.gguf", SHAPES["tiny"], "q8_0", seed=1).read_bytes()
    assert other != first
    assert len(other) == len(first)


def test_rows_that_fit_no_block_take_the_kind_that_llama_cpp_takes() -> None:
    """896 is no multiple of the 256 weights of a K-type's block."""
    found = {each.name: each.kind for each in layout.matrices(SHAPES["qwen2.5-0.5b"], "q4_k")}
    assert found["blk.0.attn_q.weight"] == KINDS["q5_0"]
    assert found["blk.0.ffn_down.weight"] == KINDS["q4_k"]  # of 4,864 columns
    assert found["token_embd.weight"] == KINDS["q8_0"]


def test_the_mix_gives_more_bits_to_the_layers_that_llama_cpp_favours() -> None:
    shape = SHAPES["llama-8b"]
    kinds = {each.name: each.kind for each in layout.matrices(shape, "q4_k_m")}
    precise = [layer for layer in range(32) if kinds[f"blk.{layer}.attn_v.weight"] == KINDS["q6_k"]]
    assert precise == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert kinds["blk.6.ffn_down.weight"] == KINDS["q6_k"]
    assert kinds["blk.6.ffn_up.weight"] == kinds["token_embd.weight"] == KINDS["q4_k"]
    assert kinds["output.weight"] == KINDS["q6_k"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-8b", 8_030_261_248),
        ("llama-3.2-1b", 1_235_814_400),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-30b-a3b", 30_532_122_624),
    ],
)
def test_known_shapes_have_the_parameters_that_their_makers_state(
    name: str, parameters: int
) -> None:
    assert layout.size(SHAPES[name], "f32") == parameters * 4


def test_shapes_are_given_by_name_file_or_json(tmp_path: Path) -> None:
    assert shapes.parse("llama-8b") == ("llama-8b", SHAPES["llama-8b"], "q8_0")
    assert shapes.parse("tiny:Q4_K") == ("tiny", SHAPES["tiny"], "q4_k")
    text = msgspec.json.encode(TINY).decode()
    (tmp_path / "mine.json").write_text(text)
    assert shapes.parse(f"{tmp_path}/mine.json:f16") == ("mine", TINY, "f16")
    assert shapes.parse(text) == ("custom", TINY, "q8_0")
    assert shapes.parse(text + ":q6_k") == ("custom", TINY, "q6_k")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("llama-9b", "no shape is called 'llama-9b'; known are llama-3.2-1b"),
        ("missing.json", "cannot read missing.json: No such file"),
        ('{"layers": 0}', r"no valid JSON of dimensions: Expected `int` >= 1 - at `\$.layers`"),
        (
            '{"layers":1,"width":100,"heads":3,"kv_heads":2,"ffn":64,"vocabulary":512}',
            "heads is no multiple of kv_heads; width is no multiple of heads",
        ),
    ],
)
def test_wrong_shapes_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        shapes.parse(text)


def test_an_unknown_quantization_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no quantization is called 'q4_x'; known are f32"):
        weights.write(tmp_path / "model.gguf", SHAPES["tiny"], "q4_x")
    assert not (tmp_path / "model.gguf").exists()


def test_a_shape_without_room_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = fit.need(SHAPES["llama-8b"], "q4_k", 8192, 512)
    assert needed.cells == 8192 * 32 * 8 * 128 * 2 * 2
    memory = fit.hardware.Memory(8 << 30, 4 << 30)
    monkeypatch.setattr(fit.hardware, "memory", lambda: memory)
    with pytest.raises(OutOfMemory, match=r"it takes 6\.\d GiB .* KV cache 1\.0.* 4\.0 GiB are"):
        fit.check("llama-8b:q4_k", needed, tmp_path)
    memory = fit.hardware.Memory(64 << 30, 64 << 30)
    usage = fit.shutil.disk_usage(tmp_path)._replace(free=1 << 30)
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutOfMemory, match=r"its file takes 4\.\d GiB, .* has 1\.0 GiB left"):
        fit.check("llama-8b:q4_k", needed, tmp_path)


def test_work_counts_what_a_step_reads_and_multiplies(tmp_path: Path) -> None:
    shape = msgspec.structs.replace(TINY, tied=False)
    model = Model(weights.write(tmp_path / "model.gguf", shape, "q8_0"), Config())
    work = work_of(model)
    model.close()
    layers = 2 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512)
    vectors = 256 + 2 * (2 * 256 + 256 + 2 * 128)
    assert work.kind == "q8_0"
    assert work.output_products == 1024 * 256
    assert work.products == layers + vectors
    # The embeddings, of which a step reads a row for each token, are left out.
    assert work.bytes == (layers + 1024 * 256) // 32 * 34 + vectors * 4
    assert work.attention == 2 * 4 * 64 * 2
    assert work.operations(10, 1, 100) == 2 * (
        10 * (layers + vectors + 100 * work.attention) + 1024 * 256
    )


def test_of_experts_a_step_reads_those_that_its_tokens_chose() -> None:
    from llmengine.llama.tensors import Tensor

    work = counted(
        [
            Tensor("token_embd.weight", "q8_0", 1000, 900),
            Tensor("blk.0.ffn_up_exps.weight", "q4_K", 8000, 16_000),
        ],
        attention=0,
        experts=8,
        used=2,
    )
    assert work.kind == "q4_K"
    assert work.read_by(1) == 1000 + 2000
    assert work.read_by(2) == 1000 + 8000 * (1 - 0.75**2)
    assert work.operations(1, 1, 0) == 2 * (4000 + 900)
