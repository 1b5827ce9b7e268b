"""`llmengine chat` on a real terminal: a pty, keys and signals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from patience import PATIENCE

FAKE = Path(__file__).parent / "fake_llmengine.py"
PROMPT = "> "
# pexpect does not answer when it is asked where the cursor is.
TERMINAL = {"TERM": "xterm-256color", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
CTRL_C, CTRL_D, ALT_ENTER, UP = "\x03", "\x04", "\x1b\r", "\x1b[A"


class Session(pexpect.spawn):
    """A chat with the fake model; `wait` for text, `press` keys."""

    def wait(self, text: str) -> None:
        self.expect_exact(text, timeout=PATIENCE)

    def prompt(self) -> None:
        """Wait until the editor reads keys: it turns bracketed paste on."""
        self.wait("\x1b[?2004h")
        self.wait(PROMPT)

    def press(self, keys: str) -> None:
        self.send(keys)

    def ask(self, text: str) -> None:
        self.press(f"{text}\r")


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def start(*arguments: str, **environment: str) -> Session:
        session = Session(
            sys.executable,
            [str(FAKE), "chat", *arguments],
            env={**os.environ, **TERMINAL, **environment},
            dimensions=(40, 100),
            encoding="utf-8",
        )
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close(force=True)


def code(session: Session) -> int:
    session.press(CTRL_D)
    session.expect(pexpect.EOF, timeout=PATIENCE)
    session.close()
    assert session.exitstatus is not None
    return session.exitstatus


def history(home: Path) -> Path:
    return home / "state" / "llmengine" / "history"


def test_a_session_from_welcome_to_ctrl_d(start):
    session = start()
    session.wait("fake (fake 1K F32), context of 4096 tokens. /help lists the commands.")
    session.prompt()
    session.ask("hi")
    session.wait("Hello, world!")
    session.prompt()
    assert code(session) == 0


def test_ctrl_c_in_the_middle_of_an_answer(start):
    session = start(FAKE_ANSWER="word " * 1000, FAKE_STEP="5", FAKE_DELAY="0.02")
    session.prompt()
    session.ask("hi")
    session.wait("word word")
    session.press(CTRL_C)
    session.wait("(stopped)")
    session.prompt()
    session.ask("/stats")
    session.wait("4096 tokens, 1 turn")
    session.prompt()
    session.press(CTRL_D)
    session.wait("cancelled=1")


def test_ctrl_c_at_the_prompt(start):
    session = start()
    session.prompt()
    session.press("half a line" + CTRL_C)
    session.wait("Ctrl-D or /exit leaves.")
    session.prompt()
    session.ask("hi")
    session.wait("Hello, world!")


def test_a_paste_of_several_lines_is_one_message(start):
    session = start()
    session.prompt()
    session.press("\x1b[200~def f():\r    return 1\rwhat is it?\x1b[201~")
    session.ask(" Tell me.")
    session.wait("Hello, world!")
    session.prompt()
    session.ask("/undo")
    session.wait("Taken back: def f():...")
    session.prompt()
    session.ask("/stats")
    session.wait("0 turns")


def test_new_lines_by_alt_enter_backslash_and_quotes(start, home):
    session = start()
    session.prompt()
    session.press("one" + ALT_ENTER + "two\\\rthree\r")
    session.wait("Hello, world!")
    session.prompt()
    session.press('"""\ra\r\rb"""\r')
    session.wait("Hello, world!")
    session.prompt()
    session.ask("/save talk.json")
    session.wait("Saved 2 turns to talk.json.")
    saved = Path("talk.json").read_text()
    assert '"content": "one\\ntwo\\nthree"' in saved
    assert '"content": "a\\n\\nb"' in saved


def test_history_persists_and_is_private(start, home):
    session = start()
    session.prompt()
    session.ask("remember me")
    session.wait("Hello, world!")
    session.prompt()
    assert code(session) == 0
    assert history(home).stat().st_mode & 0o777 == 0o600
    session = start()
    session.prompt()
    session.press(UP)
    session.wait("remember me")
    session.press("\r")
    session.wait("Hello, world!")


def test_without_a_writable_history_it_works_all_the_same(start, home):
    history(home).parent.parent.mkdir(parents=True)
    history(home).parent.write_text("in the way")
    session = start()
    session.prompt()
    session.ask("hi")
    session.wait("Hello, world!")


def test_a_history_that_becomes_unwritable_disturbs_nobody(start, home):
    session = start()
    session.prompt()
    shutil.rmtree(history(home).parent)
    session.ask("hi")
    session.wait("Hello, world!")
    assert "Unhandled exception" not in session.before
    session.prompt()
    session.press(UP)
    session.wait("hi")


def test_tab_completes_a_command(start):
    session = start()
    session.prompt()
    session.press("/hel\t")
    session.wait("p")  # only what changes on the screen is written
    session.press("\r")
    session.wait("show this")


def test_thinking_is_shown_when_it_is_on(start):
    session = start("-s", "Be kind.", FAKE_ANSWER="Let me see.</think>Four.")
    session.prompt()
    session.ask("/set think on")
    session.prompt()
    session.ask("2+2?")
    session.wait("Let me see.")
    session.wait("Four.")


def test_keys_typed_during_an_answer_wait_for_the_prompt(start):
    session = start(FAKE_ANSWER="word " * 20, FAKE_STEP="5", FAKE_DELAY="0.05")
    session.prompt()
    session.ask("hi")
    session.wait("word")
    session.press("/undo\r")
    session.prompt()
    assert "/undo" not in session.before
    session.wait("Taken back: hi")


def test_wrong_parameters_are_refused_at_once(start):
    session = start("-o", "top_p", "7")
    session.wait('error: top_p must be a number from 0 to 1, not "7"')
    session.expect(pexpect.EOF, timeout=PATIENCE)
    session.close()
    assert session.exitstatus == 2


def test_answers_go_to_stdout_and_everything_else_to_the_terminal(start, tmp_path):
    command = f"{sys.executable} {FAKE} chat > {tmp_path}/answers"
    session = Session(
        "/bin/sh",
        ["-c", command],
        env={**os.environ, **TERMINAL},
        dimensions=(40, 100),
        encoding="utf-8",
    )
    session.prompt()
    session.ask("hi")
    session.prompt()
    session.press(CTRL_D)
    session.expect(pexpect.EOF, timeout=PATIENCE)
    session.close()
    assert (tmp_path / "answers").read_text() == "Hello, world!\n"


def test_in_a_pipe_it_is_run():
    command = [sys.executable, str(FAKE), "chat", "-s", "Be kind."]
    done = subprocess.run(command, input="hi\n", capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "Hello, world!\n")
    assert done.stderr == "cancelled=0\n"


def test_a_closed_stdin_is_one_line():
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} {FAKE} chat <&-"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no input: stdin is closed\n")
