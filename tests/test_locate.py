from __future__ import annotations

from pathlib import Path

import pytest

from llmengine.config import ModelConfig
from llmengine.errors import ModelNotFound
from llmengine.models import locate


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The default models_dir with two models, and a package with an embedded one."""
    folder = Path("models").absolute()
    folder.mkdir()
    (folder / "qwen.gguf").write_bytes(b"GGUF")
    (folder / "llama-3.gguf").write_bytes(b"GGUF")
    package = tmp_path / "site" / "llmengine"
    (package / "data").mkdir(parents=True)
    (package / "data" / "tiny-chat.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(locate, "_PACKAGE", package)
    return folder


def find(name: str, models_dir: str = "models") -> Path:
    return locate.find(ModelConfig(model_path=name, models_dir=models_dir))


def refusal(name: str) -> str:
    with pytest.raises(ModelNotFound) as caught:
        find(name)
    return caught.value.message


def test_a_name_means_a_file_of_models_dir_with_or_without_suffix(models: Path) -> None:
    assert find("qwen").absolute() == models / "qwen.gguf"
    assert find("qwen.gguf").absolute() == models / "qwen.gguf"
    assert find("qwen", str(models)) == models / "qwen.gguf"


def test_a_path_is_taken_as_it_is(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "my model ü.gguf"
    path.write_bytes(b"GGUF")
    (home / "mine.bin").write_bytes(b"GGUF")
    assert find(str(path)) == path
    assert find("~/mine.bin") == home / "mine.bin"


def test_the_users_folder_comes_after_models_dir(home: Path, models: Path) -> None:
    users = locate.folders(ModelConfig())[1]
    assert home in users.parents
    users.mkdir(parents=True)
    (users / "qwen.gguf").write_bytes(b"GGUF")
    (users / "phi.gguf").write_bytes(b"GGUF")
    assert find("phi") == users / "phi.gguf"
    assert find("qwen").absolute() == models / "qwen.gguf"


def test_nothing_means_the_embedded_model_of_the_package() -> None:
    packaged = locate._PACKAGE / "data" / "tiny-chat.gguf"
    assert find("") == packaged
    assert find("tiny-chat") == packaged
    assert find("tiny-chat.gguf") == packaged


def test_in_a_checkout_the_embedded_model_lies_beside_the_package() -> None:
    (locate._PACKAGE / "data" / "tiny-chat.gguf").unlink()
    beside = locate._PACKAGE.parent / "models" / "tiny-chat.gguf"
    assert refusal("") == (f"the embedded model {beside} is missing; name a GGUF file with --model")
    beside.parent.mkdir()
    beside.write_bytes(b"GGUF")
    assert find("") == beside


def test_ones_own_tiny_chat_is_found_by_name_and_not_by_default(models: Path) -> None:
    (models / "tiny-chat.gguf").write_bytes(b"GGUF")
    assert find("tiny-chat").absolute() == models / "tiny-chat.gguf"
    assert find("") == locate._PACKAGE / "data" / "tiny-chat.gguf"


def test_the_refusal_says_where_it_looked_and_what_is_near() -> None:
    users = locate.folders(ModelConfig())[1]
    assert refusal("qwem") == (
        f"no model qwem: looked for qwem, models/qwem, models/qwem.gguf, {users}/qwem, "
        f"{users}/qwem.gguf; did you mean qwen?"
    )
    assert refusal("zzz").endswith("; known: llama-3, qwen, tiny-chat")
    assert refusal("gone/qwen.gguf") == (
        "no model gone/qwen.gguf: looked for gone/qwen.gguf; did you mean qwen?"
    )


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert refusal("models") == (
        "models is a folder, not a GGUF file; name a file in it, like llama-3.gguf"
    )
    assert refusal(str(tmp_path)) == (
        f"{tmp_path} is a folder, not a GGUF file; it holds no .gguf files"
    )


@pytest.mark.parametrize("name", ["../secret", "sub/../../secret", "..", ".", "/secret"])
def test_a_name_never_leaves_the_folder(name: str, models: Path) -> None:
    (models.parent / "sub").mkdir()
    (models.parent.parent / "secret.gguf").write_bytes(b"GGUF")
    (models.parent / "secret.gguf").write_bytes(b"GGUF")  # what models/../secret.gguf would be
    with pytest.raises(ModelNotFound):
        find(name)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_no_file_can_have(name: str) -> None:
    assert refusal(name) == "no file can have the name that was given"


def test_a_name_longer_than_the_file_system_takes() -> None:
    assert refusal("x" * 300).startswith("no model xxx")


def test_listing_names_what_can_be_found(models: Path) -> None:
    (models / "notes.txt").write_text("")
    (models / "folder.gguf").mkdir()
    for part in (1, 2, 3):
        (models / f"big-0000{part}-of-00003.gguf").write_bytes(b"GGUF")
    found = locate.listing(ModelConfig())
    assert list(found) == ["big-00001-of-00003", "llama-3", "qwen", "tiny-chat"]
    assert all(find(name) == path for name, path in found.items())


def test_a_missing_projector_names_projectors(models: Path) -> None:
    def refusal(name: str) -> str:
        with pytest.raises(ModelNotFound) as caught:
            locate.find_projector(ModelConfig(mmproj=name))
        return caught.value.message

    assert refusal("zzz").endswith("; no projectors are installed")
    (models / "mmproj-qwen.gguf").write_bytes(b"GGUF")
    assert refusal("zzz").endswith("; known: mmproj-qwen")
    assert refusal("mmproj-qwem").endswith("; did you mean mmproj-qwen?")
    assert "mmproj-qwen" not in locate.listing(ModelConfig())


def test_a_split_model_is_as_large_as_its_parts(models: Path) -> None:
    for part in (1, 2, 3):
        (models / f"big[1]-0000{part}-of-00003.gguf").write_bytes(b"x" * part)
    (models / "big[1]-00001-of-00002.gguf").write_bytes(b"x" * 50)
    (models / "big[1]-chat-00001-of-00003.gguf").write_bytes(b"x" * 90)
    assert locate.size_of(models / "big[1]-00001-of-00003.gguf") == 6
    assert locate.size_of(models / "qwen.gguf") == 4
