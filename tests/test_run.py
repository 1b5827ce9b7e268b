"""`llmengine run`: what goes to stdout, to stderr and to the exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator

import pytest
from fakes import FakeHost

from llmengine.cli import local, main
from llmengine.config import Config
from llmengine.core import Media
from llmengine.errors import EngineOverloaded, ErrorInfo, ModelNotFound


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    with FakeHost() as host:
        monkeypatch.setattr(local, "open_engine", lambda config: host)
        yield host


@pytest.fixture
def run(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of `llmengine run ARGUMENTS`; `stdin` None is a terminal."""

    def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        piped = Terminal() if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
        monkeypatch.setattr(sys, "stdin", piped)
        code = main.run(["run", *arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


def asked(host: FakeHost) -> str:
    return bytes(token for token in host.requests[0].prompt if token < 256).decode()


def user(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def test_an_argument_is_answered_on_stdout(run, host):
    assert run("hi") == (0, "Hello, world!\n", "")
    assert asked(host) == user("hi")


def test_a_pipe_is_answered_without_its_last_line_feed(run, host):
    assert run(stdin=b"hi\n") == (0, "Hello, world!\n", "")
    assert asked(host) == user("hi")


def test_the_mark_with_which_windows_begins_a_file_is_no_text(run, host):
    run(stdin=b"\xef\xbb\xbfhi\r\n")
    assert asked(host) == user("hi")


def test_a_pipe_comes_before_the_argument(run, host):
    assert run("write a commit message", stdin=b"+ line\n")[0] == 0
    assert asked(host) == user("+ line\n\nwrite a commit message")


def test_an_empty_pipe_leaves_the_argument(run, host):
    assert run("hi", stdin=b"\n")[0] == 0
    assert asked(host) == user("hi")


def test_the_system_prompt_comes_first(run, host):
    assert run("hi", "-s", "Be kind.")[0] == 0
    assert asked(host) == "<|im_start|>system\nBe kind.<|im_end|>\n" + user("hi")


def test_raw_takes_the_pipe_byte_for_byte(run, host):
    assert run("--raw", stdin=b"Once\n")[0] == 0
    assert asked(host) == "Once\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([], None, 'no prompt: write llmengine run "PROMPT", or pipe one in'),
        ([], b"", "the prompt is empty: give it as an argument or through a pipe"),
        ([""], None, "the prompt is empty: give it as an argument or through a pipe"),
        ([], b"ab\0", "stdin has a NUL byte at offset 2; this looks like a binary file"),
        (
            [],
            b"\xc3\xa9\xff",
            "stdin is not UTF-8: byte 0xff at offset 2; convert it first, for example with iconv",
        ),
        (["a\udcff"], None, "the prompt is not UTF-8: byte 0xff after 1 characters"),
        (["hi", "-s", "\udcff"], None,
         "the system prompt is not UTF-8: byte 0xff after 0 characters"),
        (["hi", "-o", "temperature", "200"], None,
         'temperature must be a number from 0 to 100, not "200"'),
        (["hi", "-o", "temperature", "nan"], None,
         'temperature must be a number from 0 to 100, not "nan"'),
        (["hi", "-o", "stop", os.fsdecode(b"caf\xe9")], None,
         "stop must be a list of strings of at most 256 characters, 16 at most"
         " without NUL bytes and invalid UTF-8"),
        (["hi", "-o", "temprature", "1"], None,
         "no such sampling parameter: temprature; did you mean temperature?"),
        (["hi", "--raw", "-s", "x"], None,
         "--raw uses no chat template: leave out --system, --think and files"),
        ([], b"x" * 5000, "the prompt has 5051 tokens, the context 4096"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_exit_code_2(run, host, arguments, stdin, message):
    assert run(*arguments, stdin=stdin) == (2, "", f"error: {message}\n")
    assert host.requests == []


def test_files_come_before_the_prompt(run, monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"cat")
    (tmp_path / "b.wav").write_bytes(b"meow")
    files = ["--image", str(tmp_path / "a.png"), "--audio", str(tmp_path / "b.wav")]
    with FakeHost(media=("image", "audio")) as host:
        monkeypatch.setattr(local, "open_engine", lambda config: host)
        assert run("What?", *files)[0] == 0
        (request,) = host.requests
    assert request.media == (Media("image", b"cat"), Media("audio", b"meow"))
    before = len("<s><|im_start|>user\n") - 2  # the first token has three letters
    ids = [*b"[", *(-1 - each for each in b"cat"), *b"][", *(-1 - each for each in b"meow"), *b"]"]
    assert list(request.prompt[before : before + len(ids)]) == ids


def test_a_file_that_is_not_there(run, host):
    code, out, err = run("What?", "--image", "none.png")
    assert (code, out, err) == (2, "", "error: cannot read none.png: No such file or directory\n")


def test_an_endless_pipe_is_refused(run):
    code, out, err = run(stdin=b"y\n" * (9 << 20))
    assert (code, out) == (2, "")
    assert err == "error: stdin has more than 16 MiB; send less of it\n"


def test_a_lone_key_is_a_usage_error(run):
    code, out, err = run("hi", "-o", "temperature")
    assert (code, out) == (2, "")
    assert "-o temperature: write -o key value" in err


def test_sampling_parameters_reach_the_request(run, host):
    run("hi", "-o", "temperature", "0.5", "-o", "top_k=7", "-o", "stop", "a b,c", "-o", "seed",
        "3", "-o", "ignore_eos", "on", "-o", "logit_bias", '{"5": -2}')  # fmt: skip
    params = host.requests[0].params
    assert (params.temperature, params.top_k, params.seed) == (0.5, 7, 3)
    assert params.stop == ("a b", "c")
    assert params.ignore_eos is True
    assert params.logit_bias == {5: -2.0}


def test_json_lists_keep_commas_and_line_feeds(run, host):
    run("hi", "-o", "stop", r'["a,b", "\n"]')
    assert host.requests[0].params.stop == ("a,b", "\n")


def test_after_two_dashes_everything_is_the_prompt(run, host):
    assert run("--", "-o")[0] == 0
    assert asked(host) == user("-o")


def test_json_is_one_object(run, host):
    code, out, err = run("hi", "--json", "-o", "max_tokens", "5")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    answer = json.loads(out)
    timings = answer.pop("timings")
    assert answer == {
        "model": "fake",
        "text": "Hello",
        "reasoning": "",
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": len(user("hi")) + 1,  # and the beginning-of-text token
            "completion_tokens": 5,
            "cached_tokens": (len(user("hi")) + 1) // 2,
            "dropped_tokens": 0,
            "dropped_messages": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert timings.keys() == {"queued", "prefill", "decode", "ttft", "tokens_per_second"}
    assert timings["tokens_per_second"] == pytest.approx(5 / 0.003)


def test_thinking_goes_to_stderr(run, host):
    host.answer = "Let me see.\n</think>\n\nFour."
    assert run("2+2?", "--think") == (0, "Four.\n", "Let me see.\n\n")
    assert asked(host).endswith("<|im_start|>assistant\n<think>\n")


def test_without_think_the_model_is_not_asked_to(run, host):
    run("2+2?")
    assert "<think>" not in asked(host)


@pytest.mark.parametrize("stream", [[], ["--no-stream"]])
@pytest.mark.parametrize("answer", ["one\n\ntwo", "one\n\ntwo\n", "one\n\ntwo\n\n\n"])
def test_the_text_ends_in_one_line_feed(run, host, answer, stream):
    host.answer = answer
    assert run("hi", *stream) == (0, "one\n\ntwo\n", "")


def test_stats_go_to_stderr(run):
    code, out, err = run("hi", "--stats")
    assert (code, out) == (0, "Hello, world!\n")
    assert err.startswith("13 tokens, 4333.3 tokens/s, first after ")
    assert err.endswith("; prompt of 53 tokens, 26 cached\n")


def test_an_error_in_the_middle_ends_the_line_first(run, host):
    host.failure = ErrorInfo("OutOfMemory", "no room; use a smaller --ctx")
    assert run("hi") == (4, "Hell\n", "error: no room; use a smaller --ctx\n")


def test_a_refusal_has_its_exit_code(run, host):
    host.refuse = EngineOverloaded("the queue is full")
    assert run("hi") == (4, "", "error: the queue is full\n")


def test_a_missing_model_is_exit_code_3(run, monkeypatch):
    def missing(config: Config) -> FakeHost:
        raise ModelNotFound("no model nope")

    monkeypatch.setattr(local, "open_engine", missing)
    assert run("hi", "-m", "nope") == (3, "", "error: no model nope\n")


def test_wrong_parameters_are_refused_before_a_model_is_loaded(run, monkeypatch):
    def never(config: Config) -> FakeHost:
        raise AssertionError("loaded")

    monkeypatch.setattr(local, "open_engine", never)
    assert run("hi", "-o", "top_p", "2")[0] == 2


def test_the_engine_is_closed_when_the_pipe_is_no_text(run, host):
    assert run(stdin=b"\xff")[0] == 2
    assert not host._thread.is_alive()
