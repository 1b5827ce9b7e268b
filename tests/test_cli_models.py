"""`llmengine models`: what can be named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmengine.cli import main


@pytest.fixture(autouse=True)
def models() -> None:
    Path("models").mkdir()
    for name, size in (
        ("qwen", 8),
        ("mmproj-qwen", 5),
        ("big-00001-of-00002", 6),
        ("big-00002-of-00002", 7),
    ):
        Path(f"models/{name}.gguf").write_bytes(bytes(size))


def test_models_and_projectors_with_the_sizes_of_all_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["models"]) == 0
    *rows, embedded, projector = capsys.readouterr().out.splitlines()
    assert rows == [
        "big-00001-of-00002\tmodel\t13\tmodels/big-00001-of-00002.gguf",
        "qwen\tmodel\t8\tmodels/qwen.gguf",
    ]
    assert embedded.startswith("tiny-chat\tmodel\t")
    assert projector == "mmproj-qwen\tprojector\t5\tmodels/mmproj-qwen.gguf"


def test_json_of_another_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("models").rename("elsewhere")
    assert main.run(["models", "--json", "--models-dir", "elsewhere"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == [
        "big-00001-of-00002",
        "qwen",
        "tiny-chat",
        "mmproj-qwen",
    ]
    assert found[1] == {
        "name": "qwen",
        "kind": "model",
        "size_bytes": 8,
        "path": "elsewhere/qwen.gguf",
    }
