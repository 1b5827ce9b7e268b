"""What `llmengine doctor` finds, and what it advises."""

from __future__ import annotations

import json
import shlex
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_projectors import growing

from llmengine.cli import advice, main
from llmengine.models import locate

X86 = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | FMA = 0 | REPACK = 1 | "
CUDA = "CUDA : ARCHS = 500 | USE_GRAPHS = 1 | CPU : AVX2 = 1 | "


def cpuinfo(root: Path, text: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(text)
    return root


def test_compiled_features() -> None:
    assert advice.compiled_features(X86) == ["SSE3", "AVX", "AVX2", "REPACK"]
    assert advice.compiled_features(CUDA) == ["AVX2"]
    assert advice.compiled_features("") == []


def test_cpu_flags(tmp_path: Path) -> None:
    assert advice.cpu_flags(tmp_path) == frozenset()
    text = "processor\t: 0\nflags\t\t: fpu avx avx2\n\nprocessor\t: 1\nflags\t\t: none\n"
    assert advice.cpu_flags(cpuinfo(tmp_path, text)) == {"fpu", "avx", "avx2"}


def test_cpu_flags_of_arm(tmp_path: Path) -> None:
    assert advice.cpu_flags(cpuinfo(tmp_path, "Features\t: asimddp i8mm\n")) == {"asimddp", "i8mm"}


def test_features_of_build_and_cpu_are_compared() -> None:
    flags = {"pni", "avx", "avx2", "avx512f", "fma"}
    assert advice.unused_features({"SSE3", "AVX", "FMA"}, flags) == ["AVX2", "AVX512"]
    assert advice.missing_features({"AVX2", "AVX512_VNNI", "REPACK"}, flags) == ["AVX512_VNNI"]
    assert advice.missing_features({"AVX2"}, set()) == []


@pytest.mark.parametrize(
    ("paths", "backends"),
    [
        ([], []),
        (["proc/driver/nvidia/version"], ["cuda"]),
        (["dev/nvidiactl", "dev/dri/renderD128"], ["cuda"]),
        (["dev/kfd", "dev/dri/renderD128"], ["rocm"]),
        (["dev/dri/renderD128"], ["vulkan"]),
        (["dev/dri/card0"], []),
    ],
)
def test_gpus_are_found(
    paths: list[str], backends: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice.platform, "system", lambda: "Linux")
    for each in paths:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    assert advice.gpu_backends(tmp_path) == backends


def test_metal_on_apple_silicon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(advice.platform, "machine", lambda: "arm64")
    assert advice.gpu_backends(tmp_path) == ["metal"]
    monkeypatch.setattr(advice.platform, "machine", lambda: "x86_64")
    assert advice.gpu_backends(tmp_path) == []


def test_build_commands() -> None:
    """They are for the Python that runs, and for a release that fits."""
    install = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-cache-dir"
    assert advice.build_command("cuda", "0.3.36") == (
        f'CMAKE_ARGS="-DGGML_CUDA=on" {install} llama-cpp-python==0.3.36'
    )
    command = advice.build_command()
    assert command.startswith(f"{install} 'llama-cpp-python")
    assert ">=0.3.36" in command


def gguf_vocabulary(path: Path) -> Path:
    """A GGUF file with a byte vocabulary and no weights: enough to be described."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3, *[6] * 256]

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def field(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    def array(kind: int, items: list[bytes]) -> bytes:
        return struct.pack("<IQ", kind, len(items)) + b"".join(items)

    fields = [
        field("general.architecture", 8, text("llama")),
        field("general.name", 8, text("probe")),
        field("general.size_label", 8, text("1K")),
        field("general.file_type", 4, struct.pack("<I", 15)),
        field("llama.context_length", 4, struct.pack("<I", 64)),
        field("llama.embedding_length", 4, struct.pack("<I", 8)),
        field("llama.block_count", 4, struct.pack("<I", 1)),
        field("tokenizer.ggml.model", 8, text("llama")),
        field("tokenizer.ggml.tokens", 9, array(8, [text(token) for token in tokens])),
        field("tokenizer.ggml.scores", 9, array(6, [struct.pack("<f", 0.0)] * len(tokens))),
        field("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", k) for k in kinds])),
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(fields)) + b"".join(fields))
    return path


def examine(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main.run(["doctor", "--json", *arguments])
    captured = capfd.readouterr()
    assert captured.err == ""  # llama.cpp's own log included
    return code, json.loads(captured.out)


def test_a_usable_machine(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = gguf_vocabulary(tmp_path / "probe.gguf")
    Path("config.toml").write_text("[model]\ndevice = 'cpu'\n")
    code, report = examine(capfd, "-m", str(model))
    assert (code, report["problems"]) == (0, [])
    assert report["config_file"] == "config.toml"
    assert report["model"]["path"] == str(model)
    assert report["model"]["size_bytes"] == model.stat().st_size
    assert report["model"]["description"] == "probe, llama, 1K, Q4_K_M"
    assert 1 <= report["cores"] <= report["machine_cores"]
    assert 0 < report["memory_available"] <= report["memory_total"]
    assert report["llama_cpp"].startswith("0.3.")


def test_the_table(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = gguf_vocabulary(tmp_path / "probe.gguf")
    assert main.run(["doctor", "-m", str(model)]) == 0
    lines = capfd.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:7] == ["llmengine", "llama.cpp", "devices", "cores", "memory", "config", "model"]
    assert lines[5] == "config     no file, defaults"
    assert lines[6] == f"model      {model}, 0.0 MiB, probe, llama, 1K, Q4_K_M"


def test_a_draft_model_and_a_projector(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = gguf_vocabulary(tmp_path / "probe.gguf")
    projector = growing(tmp_path / "eyes.gguf", 64)
    flags = ["-m", str(model), "--draft-model", str(model), "--mmproj", str(projector)]
    assert main.run(["doctor", *flags]) == 0
    *_, draft, mmproj = capfd.readouterr().out.splitlines()
    assert draft == f"draft      {model}, 0.0 MiB, probe, llama, 1K, Q4_K_M"
    assert mmproj == f"mmproj     {projector}, 0.1 MiB"
    (tmp_path / "broken.gguf").write_bytes(b"PK")
    broken = str(tmp_path / "broken.gguf")
    code, report = examine(
        capfd, "-m", str(model), "--draft-model", "nowhere.gguf", "--mmproj", broken
    )
    assert (code, report["draft_model"], report["mmproj"]) == (1, None, None)
    missing, bad = report["problems"]
    assert missing.startswith("no draft model nowhere.gguf: looked for nowhere.gguf")
    assert bad == f"{broken} is not a GGUF file"


def test_the_size_of_a_split_model_is_that_of_all_parts(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = gguf_vocabulary(tmp_path / "probe-00001-of-00002.gguf")
    (tmp_path / "probe-00002-of-00002.gguf").write_bytes(bytes(3 << 20))
    code, report = examine(capfd, "-m", str(first))
    assert code == 0
    assert report["model"]["size_bytes"] == first.stat().st_size + (3 << 20)


def test_a_missing_model_is_a_problem(capfd: pytest.CaptureFixture[str]) -> None:
    code, report = examine(capfd, "-m", "nowhere/x.gguf")
    assert (code, report["model"]) == (1, None)
    (problem,) = report["problems"]
    assert problem.startswith("no model nowhere/x.gguf: looked for nowhere/x.gguf; ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is not a GGUF file"), (b"PK\x03\x04", "is not a GGUF file"), (b"GGUF\x03", "")],
)
def test_a_broken_model_is_a_problem(
    content: bytes, reason: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    code, report = examine(capfd, "-m", str(path))
    assert code == 1
    (problem,) = report["problems"]
    assert str(path) in problem
    assert reason in problem


def test_without_llama_cpp(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("llmengine.llama")]:
        monkeypatch.delitem(sys.modules, name)
    import llmengine

    monkeypatch.delattr(llmengine, "llama", raising=False)
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    code, report = examine(capfd, "-m", str(model))
    assert (code, report["llama_cpp"]) == (1, None)
    (problem,) = report["problems"]
    assert problem.startswith("llama.cpp cannot be loaded (import of llama_cpp halted")
    assert problem.endswith(f": {advice.build_command()}")


def test_a_gpu_is_told_with_its_memory(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from llmengine.llama import device

    gib = 1 << 30
    found = device.Device("CUDA0", "NVIDIA H200", 138 * gib, 140 * gib, handle=1)
    monkeypatch.setattr(device, "devices", lambda: [found])
    path = str(gguf_vocabulary(tmp_path / "m.gguf"))
    told = {"name": "CUDA0", "description": "NVIDIA H200"}
    sizes = {"memory_free": 138 * gib, "memory_total": 140 * gib}
    assert examine(capfd, "-m", path)[1]["devices"] == [told | sizes]
    assert main.run(["doctor", "-m", path]) == 0
    line = "devices    CUDA0: NVIDIA H200, 138.0 of 140.0 GiB free"
    assert line in capfd.readouterr().out.splitlines()


def test_a_gpu_without_a_build_for_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from llmengine.llama import device

    monkeypatch.setattr(device, "devices", list)
    monkeypatch.setattr(advice, "gpu_backends", lambda: ["cuda"])
    monkeypatch.setattr(advice, "cpu_flags", frozenset)
    code, report = examine(capfd, "-m", str(gguf_vocabulary(tmp_path / "m.gguf")))
    assert code == 0
    assert report["advice"] == [
        "a GPU for cuda is present, but llama.cpp was not built for it: "
        f"{advice.build_command('cuda', report['llama_cpp'])}"
    ]
    code, report = examine(capfd, "-m", str(tmp_path / "m.gguf"), "--device", "cuda")
    assert code == 1
    assert report["problems"][0].startswith('device "cuda" is not there')


def test_a_build_for_another_cpu(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from llmengine.llama import library

    monkeypatch.setattr(library, "system_info", lambda: X86)
    monkeypatch.setattr(advice, "cpu_flags", lambda: frozenset({"pni", "avx", "f16c"}))
    monkeypatch.setattr(advice, "gpu_backends", list)
    code, report = examine(capfd, "-m", str(gguf_vocabulary(tmp_path / "m.gguf")))
    command = advice.build_command(version=report["llama_cpp"])
    assert code == 1
    assert report["problems"] == [
        f"llama.cpp was built for AVX2, which this CPU lacks; build it here: {command}"
    ]
    assert report["advice"] == [
        f"this CPU has F16C, which llama.cpp was not built for; build it here: {command}"
    ]


def test_nothing_named_examines_the_embedded_model(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "llmengine")
    (tmp_path / "llmengine" / "data").mkdir(parents=True)
    model = gguf_vocabulary(tmp_path / "llmengine" / "data" / "tiny-chat.gguf")
    code, report = examine(capfd)
    assert (code, report["model"]["path"]) == (0, str(model))
