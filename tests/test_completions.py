"""The files in `completions/` and what they make the shells offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llmengine.cli import main
from llmengine.cli.completion import SCRIPTS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_files_are_up_to_date(
    shell: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["completion", shell]) == 0
    file = root / "completions" / f"llmengine.{shell}"
    assert file.read_text() == capsys.readouterr().out, "run `make completions`"


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "tcsh"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no completion for tcsh; choose one of bash, zsh, fish\n"


def offered(*words: str) -> list[str]:
    """What bash would offer for the last of `words`."""
    environ = {
        **os.environ,
        "COMP_WORDS": "\n".join(("llmengine", *words)),
        "COMP_CWORD": str(len(words)),
        "_LLMENGINE_COMPLETE": "complete_bash",
    }
    command = [sys.executable, "-m", "llmengine"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_flags_and_values() -> None:
    assert offered("conf") == ["config"]
    assert offered("config", "") == ["show", "check", "options", "init"]
    assert offered("doctor", "--dev") == ["--device"]
    assert offered("doctor", "--device", "c") == ["cpu", "cuda"]
    assert offered("doctor", "--set", "cache.ev") == ["cache.eviction_policy="]
    assert offered("completion", "") == ["bash", "zsh", "fish"]


def test_sampling_parameters() -> None:
    assert offered("run", "-o", "temp") == ["temperature="]
    assert offered("run", "-o", "temperature", "0.2", "-o", "see") == ["seed="]
    assert offered("chat", "-o", "temperature=0.2", "--dev") == ["--device"]
    assert offered("run", "-o", "temperature", "") == []


def test_model_names() -> None:
    Path("models").mkdir()
    for name in ("qwen", "quill", "phi"):
        Path(f"models/{name}.gguf").write_bytes(b"GGUF")
    assert offered("doctor", "-m", "q") == ["quill", "qwen"]
    Path("config.toml").write_text("[model]\nmodels_dir = 'elsewhere'\n")
    assert offered("doctor", "-m", "q") == []


def test_draft_models_and_projectors_have_names_too() -> None:
    Path("models").mkdir()
    for name in ("quill", "mmproj-quill"):
        Path(f"models/{name}.gguf").write_bytes(b"GGUF")
    assert offered("run", "--draft-model", "q") == ["quill"]
    assert offered("run", "--mmproj", "") == ["mmproj-quill"]


def test_bench_takes_the_flags_of_the_sub_command_that_is_meant() -> None:
    assert offered("bench", "") == ["serve", "model", "compare"]
    assert offered("bench", "--ge") == ["--generate"]
    assert offered("bench", "--he") == ["--help"]
    assert offered("bench", "-m", "tiny") == ["tiny-chat"]
    assert offered("bench", "--prompt", "8", "--de") == ["--depth", "--device"]


def test_values_of_bench() -> None:
    assert offered("bench", "serve", "--workload", "b") == ["burst"]
    assert offered("bench", "serve", "--workload", "burst,sh") == ["burst,shared-prefix"]
    assert offered("bench", "serve", "--workload", "a") == ["all"]
    assert offered("bench", "--shape", "llama-8") == ["llama-8b"]


def test_scopes_and_ids_of_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert offered("keys", "add", "--scope", "") == ["inference", "admin", "metrics"]
    assert offered("keys", "revoke", "") == []
    assert main.run(["keys", "add"]) == 0
    made = capsys.readouterr().err.split()[0]
    assert offered("keys", "revoke", "key_") == [made]


@pytest.mark.model
def test_ids_of_cached_prompts() -> None:
    assert offered("cache", "rm", "") == []
    Path("prompt.txt").write_text("hello " * 200)
    assert main.run(["cache", "warm", "prompt.txt"]) == 0
    [entry] = offered("cache", "rm", "")
    assert offered("cache", "unpin", entry[:4]) == [entry]
    assert offered("cache", "show", "no") == []


def test_broken_files_do_not_break_completion() -> None:
    Path("keys.json").write_text("[")
    Path("keys.json").chmod(0o600)
    Path("config.toml").write_text("[server]\nkeys_file = 'keys.json'\n")
    assert offered("keys", "revoke", "") == []
    Path("config.toml").write_text("[model\n")
    assert offered("doctor", "-m", "q") == []
    assert offered("keys", "revoke", "") == []


def test_what_zsh_and_fish_are_told() -> None:
    """These shells are seldom installed where tests run, so what they evaluate is compared."""

    def told(shell: str, line: str) -> str:
        environ = {
            **os.environ,
            "_LLMENGINE_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        command = [sys.executable, "-m", "llmengine"]
        return subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True).stdout

    assert told("zsh", "llmengine doctor --device c") == (
        """_arguments '*: :(("cpu"\n"cuda"))'\n"""
    )
    assert told("fish", "llmengine doctor --device c") == "cpu\ncuda\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_the_bash_script_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "llmengine"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m llmengine "$@"\n')
    program.chmod(0o755)
    session = textwrap.dedent(
        f"""\
        PATH={program.parent}:$PATH
        {SCRIPTS["bash"]}
        complete -p llmengine
        COMP_WORDS=(llmengine doctor --device c) COMP_CWORD=3
        _llmengine llmengine
        printf '%s\\n' "${{COMPREPLY[@]}}"
        COMP_WORDS=(llmengine doctor --device = v more) COMP_CWORD=4
        _llmengine llmengine
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
    )
    done = subprocess.run(["bash", "-c", session], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "complete -o default -F _llmengine llmengine",
        "cpu",
        "cuda",
        "vulkan",
    ]


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_the_fish_script_in_fish(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "llmengine"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m llmengine "$@"\n')
    program.chmod(0o755)
    lines = "llmengine doctor --device c", "llmengine doctor --device=c"
    session = "\n".join(
        [
            f"set -x PATH {program.parent} $PATH",
            SCRIPTS["fish"],
            *(f"complete -C '{line}'" for line in lines),
        ]
    )
    done = subprocess.run(["fish", "-c", session], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "cuda", "--device=cpu", "--device=cuda"]
