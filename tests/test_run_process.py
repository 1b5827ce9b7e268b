"""`llmengine run` as a process of its own: pipes, signals, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from patience import PATIENCE

FAKE = Path(__file__).parent / "fake_llmengine.py"


def process(
    arguments: Sequence[str], *, stdin: str = "", **environment: str
) -> subprocess.Popen[str]:
    command = subprocess.Popen(
        [sys.executable, str(FAKE), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert command.stdin is not None
    command.stdin.write(stdin)
    command.stdin.close()
    command.stdin = None
    return command


def test_pieces_come_at_once_through_a_pipe():
    with process(["run"], stdin="hi", FAKE_ANSWER="ab", FAKE_STEP="1", FAKE_DELAY="60") as command:
        assert command.stdout.read(1) == "a"
        assert command.poll() is None
        command.kill()


def test_a_reader_that_leaves_early_ends_it_cleanly():
    with process(["run"], stdin="hi", FAKE_ANSWER="a\n" * 5000, FAKE_DELAY="0.01") as command:
        assert command.stdout.readline() == "a\n"
        command.stdout.close()
        assert (command.stderr.read(), command.wait(PATIENCE)) == ("cancelled=1\n", 0)


def test_ctrl_c_ends_it_cleanly():
    with process(
        ["run", "hi"], FAKE_ANSWER="a" * 5000, FAKE_STEP="1", FAKE_DELAY="0.01"
    ) as command:
        assert command.stdout.read(1) == "a"
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=PATIENCE)
    assert command.returncode == 130
    assert set(out) <= {"a"}
    assert err.split() == ["cancelled=1"]


def test_no_escape_codes_in_a_pipe():
    answer = "Sure.\n</think>\n**bold** and `code`"
    with process(["run", "hi", "--think", "--stats"], FAKE_ANSWER=answer) as command:
        out, err = command.communicate(timeout=PATIENCE)
    assert out == "**bold** and `code`\n"
    assert err.startswith("Sure.\n\n")
    assert "\x1b" not in err


def test_a_pipe_gets_utf_8_whatever_the_locale():
    with process(["run", "hi"], FAKE_ANSWER="Grüße", PYTHONIOENCODING="ascii") as command:
        out, _ = command.communicate(timeout=PATIENCE)
    assert out == "Grüße\n"


def test_a_closed_stdout_is_one_line():
    shell = f"exec {sys.executable} {FAKE} run hi >&-"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere to answer: stdout is closed\n")


def test_a_closed_stderr_is_no_error():
    shell = f"exec {sys.executable} {FAKE} run hi --think --stats 2>&-"
    answer = "Let me see.</think>Four."
    environment = {**os.environ, "FAKE_ANSWER": answer}
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, env=environment, text=True)
    assert (done.returncode, done.stdout) == (0, "Four.\n")


def test_only_what_is_needed_is_imported():
    code = (
        "import sys; from fakes import FakeHost; from llmengine.cli import local, main;"
        "host = FakeHost('x'); local.open_engine = lambda config: host; main.run(['run', 'hi']);"
        "print(sorted({'rich', 'prompt_toolkit', 'sanic', 'numpy', 'llama_cpp'} & {*sys.modules}))"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{FAKE.parent.parent}:{FAKE.parent}"},
        text=True,
    )
    assert out == "x\n[]\n"


@pytest.mark.model
def test_the_embedded_model_answers():
    command = [sys.executable, "-m", "llmengine", "run", "-o", "temperature", "0"]
    done = subprocess.run(command, input="hi\n", capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    assert done.stdout.strip()
