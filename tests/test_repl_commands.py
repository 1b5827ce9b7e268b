"""The loop and the slash commands, on a screen of paper."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeHost
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from llmengine.chat.delta import Delta
from llmengine.cli.client import Client
from llmengine.cli.repl import commands
from llmengine.cli.repl.completion import CommandCompleter
from llmengine.cli.repl.conversation import Conversation
from llmengine.cli.repl.loop import HINT, Repl
from llmengine.cli.repl.transcript import Message
from llmengine.errors import ErrorInfo
from llmengine.sampling import SamplingParams

LATIN = os.fsdecode(b"caf\xe9")  # as a terminal gives what is no UTF-8


class Paper:
    """A screen that keeps what it shows; an exception among the lines to read is raised."""

    def __init__(self, *lines: str | BaseException) -> None:
        self.lines = list(lines)
        self.said: list[str] = []
        self.complaints: list[str] = []
        self.answers: list[str] = []
        self.press_ctrl_c_after = 0  # characters of an answer; 0: never

    def read(self) -> str:
        line = self.lines.pop(0) if self.lines else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line

    def say(self, text: str) -> None:
        self.said.append(text)

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    @contextmanager
    def answering(self) -> Iterator[Paper]:
        self.answers.append("")
        yield self
        self.answers[-1] += "."

    def show(self, delta: Delta) -> None:
        self.answers[-1] += delta.content
        if 0 < self.press_ctrl_c_after <= len(self.answers[-1]):
            self.press_ctrl_c_after = 0
            os.kill(os.getpid(), signal.SIGINT)

    def end(self) -> None: ...


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost("Hello") as host:
        yield host


def session(host: FakeHost, *lines: str | BaseException, **more: int) -> tuple[Repl, Paper]:
    """A whole session that reads `lines`; the welcome is taken off what was said."""
    paper = Paper(*lines)
    paper.press_ctrl_c_after = more.get("press_ctrl_c_after", 0)
    repl = Repl(host, Conversation(Client(host), params=SamplingParams()), paper)
    repl.run()
    paper.said.pop(0)
    return repl, paper


def test_the_welcome_names_model_and_context(host):
    paper = Paper()
    Repl(host, Conversation(Client(host), params=SamplingParams()), paper).run()
    assert paper.said == ["fake (fake 1K F32), context of 4096 tokens. /help lists the commands."]


def test_messages_are_answered_until_the_end(host):
    repl, paper = session(host, "hi", "", "  \n", "and?")
    assert paper.answers == ["Hello.", "Hello."]
    assert [message.content for message in repl.conversation.messages[::2]] == ["hi", "and?"]


def test_exit_leaves_at_once(host):
    assert session(host, "/exit", "hi")[1].answers == []
    assert session(host, "/quit", "hi")[1].answers == []


def test_ctrl_c_at_the_prompt_shows_a_hint(host):
    _, paper = session(host, KeyboardInterrupt(), "hi")
    assert (paper.said, paper.answers) == ([HINT], ["Hello."])


def test_ctrl_c_stops_the_answer_and_not_the_program(host):
    host.answer, host.delay = "a" * 1000, 0.002
    before = signal.getsignal(signal.SIGINT)
    _, paper = session(host, "hi", "/clear", "again", press_ctrl_c_after=8)
    assert paper.answers[0].startswith("aaaaaaaa")
    assert len(paper.answers[0]) < 1000
    assert paper.said[0] == "(stopped)"
    assert paper.answers[1] == "a" * 1000 + "."
    assert len(host.cancelled) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_answer_stays_in_the_conversation(host):
    host.answer, host.delay = "a" * 1000, 0.002
    repl, paper = session(host, "hi", press_ctrl_c_after=8)
    assert repl.conversation.messages == [
        Message("user", "hi"),
        Message("assistant", paper.answers[0].removesuffix("."), stopped=True),
    ]


def test_a_full_context_tells_the_remedy_and_keeps_the_conversation(host):
    repl, paper = session(host, "hi", "x" * 5000, "more")
    assert paper.complaints == ["the prompt has 5119 tokens, the context 4096"]
    assert paper.said == ["/undo takes back the last turn, /clear starts anew."]
    assert [message.content for message in repl.conversation.messages[::2]] == ["hi", "more"]


def test_an_error_is_told_and_the_loop_goes_on(host):
    host.failure = ErrorInfo("OutOfMemory", "no room")
    _, paper = session(host, "hi", "/stats")
    assert paper.complaints == ["no room"]
    assert len(paper.said) == 1


def test_an_answer_cut_by_max_tokens_says_so(host):
    _, paper = session(host, "/set max_tokens 3", "hi")
    assert paper.answers == ["Hel."]
    assert paper.said[1] == "(cut at max_tokens = 3; /set max_tokens default lifts it)"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/hlp", "no such command: /hlp; did you mean /help?"),
        ("/zzz now", "no such command: /zzz; /help lists the commands"),
        ("/undo", "nothing to undo: the conversation is empty"),
        ("/retry", "nothing to retry: the conversation is empty"),
        ("/save", "/save needs the name of a file"),
        ("/load nope", "cannot read nope: No such file or directory"),
        ("/set heat 1", "no such sampling parameter: heat; `llmengine config options` lists them"),
        ("/set top_p 2", 'top_p must be a number from 0 to 1, not "2"'),
        ("/set think maybe", "/set think takes on or off, not maybe"),
        ("/clear the table", "/clear takes no argument; what begins with a space is a message"),
        ("/q now", "/exit takes no argument; what begins with a space is a message"),
        (f"/set stop {LATIN}", "the message is not UTF-8: byte 0xe9 after 13 characters"),
        (f"/system {LATIN}", "the message is not UTF-8: byte 0xe9 after 11 characters"),
        (LATIN, "the message is not UTF-8: byte 0xe9 after 3 characters"),
    ],
)
def test_a_wrong_command_is_one_line(host, line, complaint):
    _, paper = session(host, line)
    assert (paper.complaints, paper.said) == ([complaint], [])


@pytest.mark.parametrize("line", ["/usr/bin/env is what?", " /help", "/ alone", "//"])
def test_what_only_looks_like_a_command_is_a_message(host, line):
    repl, _ = session(host, line)
    assert repl.conversation.messages[0].content == line


def test_help_lists_every_command(host):
    _, paper = session(host, "/help")
    lines = paper.said[0].splitlines()
    assert [line.split()[0] for line in lines[: len(commands.COMMANDS)]] == [
        f"/{name}" for name in commands.COMMANDS
    ]


def test_system_prompts_of_several_lines(host):
    _, paper = session(host, "/system Be kind.\nAnd brief.", "/system", '/system ""', "/system")
    assert paper.said == [
        "The system prompt is set.",
        "Be kind.\nAnd brief.",
        "The system prompt is removed.",
        "There is no system prompt; /system TEXT sets one.",
    ]


def test_set_shows_and_changes_settings(host):
    repl, paper = session(
        host, "/set top_k 5", "/set top_k", "/set think on", "/set", "/set top_k default"
    )
    assert paper.said[0] == "top_k = 5"
    assert paper.said[1].startswith("top_k = 5  Keep the k likeliest tokens")
    assert repl.conversation.think is True
    table = paper.said[3].splitlines()
    assert next(line for line in table if "top_k" in line).split()[:3] == ["*", "top_k", "5"]
    assert next(line for line in table if "think" in line).split()[:2] == ["think", "on"]
    assert paper.said[4] == "top_k = 40"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set top_k=5", "top_k = 5"),
        ("/set top_k= 5", "top_k = 5"),
        ("/set stop=a b", 'stop = ["a b"]'),
        ("/set stop =", 'stop = ["="]'),
    ],
)
def test_a_setting_may_be_written_as_in_a_config_file(host, line, said):
    assert session(host, line)[1].said == [said]


def test_stats_after_each_answer_and_on_demand(host):
    _, paper = session(host, "/stats", "/set stats on", "hi", "/stats")
    assert paper.said[0].startswith("No answer yet.\n")
    assert paper.said[2].startswith("5 tokens, 1666.7 tokens/s, first after ")
    assert paper.said[2].endswith("; prompt of 53 tokens, 26 cached")
    assert paper.said[3].splitlines()[1] == "Context: 58 of 4096 tokens, 1 turn"


def test_undo_retry_and_clear(host):
    repl, paper = session(host, "one", "two", "/retry", "/undo", "/clear")
    assert paper.answers == ["Hello.", "Hello.", "Hello."]
    assert host.requests[1].prompt == host.requests[2].prompt
    assert paper.said[0] == "Taken back: two"
    assert repl.conversation.messages == []


def test_files_go_with_the_next_message(host, tmp_path):
    (tmp_path / "notes.md").write_text("Foxes are red.", encoding="utf-8")
    name = f"/attach {tmp_path / 'notes.md'}"
    repl, paper = session(
        host, "/attach", name, "/attach", '/attach ""', name, "What?", "/attach", "/attach missing"
    )
    assert paper.said == [
        "Nothing is attached; /attach FILE adds an image, a recording or text.",
        "notes.md (text) goes with the next message.",
        'With the next message goes notes.md; /attach "" leaves it out.',
        "Nothing is attached any more.",
        "notes.md (text) goes with the next message.",
        "Nothing is attached; /attach FILE adds an image, a recording or text.",
    ]
    assert paper.complaints == ["cannot read missing: No such file or directory"]
    asked = repl.conversation.messages[0].content
    assert asked == "notes.md:\n\nFoxes are red.\n\nWhat?"


@pytest.mark.parametrize("pasted", ["'{}'", '"{}"', "{}", "plain"])
def test_a_file_is_named_as_terminals_paste_it(host, tmp_path, pasted):
    path = tmp_path / "my notes.md"
    path.write_text("Foxes are red.", encoding="utf-8")
    escaped = str(path).replace(" ", "\\ ") if pasted == "plain" else pasted.format(path)
    _, paper = session(host, f"/attach {escaped}", "/attach 'no end")
    assert paper.said == ["my notes.md (text) goes with the next message."]
    assert paper.complaints == ["cannot read 'no end: No such file or directory"]


def test_save_and_load(host):
    repl, paper = session(host, "hi", "/save my talk.json", "/clear", "/load my talk.json", "and?")
    assert paper.said[0] == "Saved 1 turn to my talk.json."
    assert paper.said[2] == "Loaded 1 turn from my talk.json."
    assert [message.content for message in repl.conversation.messages[::2]] == ["hi", "and?"]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("/s", ["system", "set", "save", "stats"]),
        ("/set te", ["temperature"]),
        ("/set st", ["stats", "stop"]),
        ("/set think ", ["on", "off"]),
        ("/set think of", ["off"]),
        ("/set top_k d", ["default"]),
        ("/load ta", ["lk.json"]),
        ("/exit x", []),
        ("hello /s", []),
    ],
)
def test_completion(text, offered):
    Path("talk.json").touch()
    found = CommandCompleter().get_completions(Document(text), CompleteEvent())
    assert [each.text for each in found] == offered
