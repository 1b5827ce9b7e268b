"""The command itself: help, errors, exit codes, flags made from settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
import typer

from llmengine import __version__
from llmengine.cli import main
from llmengine.cli.options import takes_settings
from llmengine.errors import EngineOverloaded, ModelNotFound
from llmengine.options import options
from llmengine.settings import Settings

HEAVY = ("llama_cpp", "sanic", "numpy", "prompt_toolkit", "rich", "jinja2", "psutil")
COMMANDS = [
    "run",
    "chat",
    "serve",
    "models",
    "doctor",
    "completion",
    "bench",
    "cache",
    "config",
    "keys",
]


def llmengine(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmengine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


# Starting


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    commands = captured.out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)  +\S", commands, re.MULTILINE) == COMMANDS


def test_no_help_line_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["bench"], ["cache"], ["config"], ["keys"]):
        assert main.run([*group, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def helps(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The commands below `command`, by their names."""
    yield names
    for name, each in getattr(command, "commands", {}).items():
        yield from helps(each, *names, name)


@pytest.mark.parametrize("names", [*helps(typer.main.get_command(main.app))], ids=" ".join)
def test_help_has_no_words_of_python(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*names, "--help"]) == 0
    flags = capsys.readouterr().out.partition("Options:\n")[2]
    assert re.findall(r"<[\w\[\] ]+>", flags) == []


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from llmengine.cli import main\n"
        f"code = main.run({[*command, '--help']!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[] 0\n"
    assert done.stdout.startswith("Usage: ")


def test_help_is_fast() -> None:
    """Processor time, best of five: what else the machine does is no concern of this test."""
    seconds = []
    for _ in range(5):
        before = os.times()
        assert llmengine("--help").returncode == 0
        after = os.times()
        user = after.children_user - before.children_user
        seconds.append(user + after.children_system - before.children_system)
    assert min(seconds) < 0.25


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"llmengine {__version__}\n"


# Errors


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(["chta"], capsys).startswith("error: No such command 'chta'.")
    assert refused(["doctor", "--prot"], capsys).startswith("error: No such option: --prot")
    line = refused(["doctor", "x"], capsys)
    assert line.startswith("error: Got unexpected extra argument")
    assert line.endswith("(x) (`llmengine doctor --help` shows the usage)\n")
    assert refused(["completion"], capsys).startswith("error: Missing argument")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `llmengine completion` raise what it is given."""

    def install(error: BaseException) -> None:
        def fail() -> None:
            raise error

        app = typer.Typer(rich_markup_mode=None)
        app.command("completion")(fail)
        app.command("other")(fail)
        monkeypatch.setattr(main, "app", app)

    return install


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ModelNotFound("no model x"), 3, "error: no model x\n"),
        (EngineOverloaded("queue full"), 4, "error: queue full\n"),
        (ModelNotFound("a\nb\x1b[2J"), 3, "error: a\nerror: b\\x1b[2J\n"),
        (PermissionError(13, "denied", "f"), 1, "error: [Errno 13] denied: 'f'\n"),
        (
            ZeroDivisionError("by zero"),
            1,
            "error: internal error: ZeroDivisionError: by zero "
            "(LLM_ENGINE_RAISE_ERRORS=1 shows where)\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
        (typer.Exit(7), 7, ""),
    ],
)
def test_errors_become_a_line_and_a_code(
    error: BaseException,
    code: int,
    line: str,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error)
    assert main.run(["completion"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)


def test_errors_are_raised_on_request(
    failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ModelNotFound("no model x"))
    monkeypatch.setenv("LLM_ENGINE_RAISE_ERRORS", "1")
    with pytest.raises(ModelNotFound):
        main.run(["completion"])


def test_the_process_ends_with_the_code() -> None:
    done = llmengine("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no completion for tcsh; choose one of bash, zsh, fish\n"


def test_a_closed_pipe_ends_cleanly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        command = [sys.executable, "-m", "llmengine", "config", "options"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# Flags made from settings


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, str]]:
    """A command `probe` that takes settings, and the calls it got."""
    calls: list[tuple[Settings, str]] = []

    @takes_settings(
        "model.model_path", "server.port", "server.api_key", "server.enable_cors", "logging.level"
    )
    def probe(
        settings: Settings, prompt: Annotated[str, typer.Argument(help="Text.")] = "none"
    ) -> None:
        """Probe."""
        calls.append((settings, prompt))

    app = typer.Typer(rich_markup_mode=None)
    app.command()(probe)
    monkeypatch.setattr(main, "app", app)
    return calls


def test_flags_set_settings(probe: list[tuple[Settings, str]]) -> None:
    line = "hello --port 80 -m x.gguf --enable-cors --log-level debug --set sampling.top_k=3"
    assert main.run(line.split()) == 0
    ((settings, prompt),) = probe
    config = settings.config
    assert prompt == "hello"
    assert (config.server.port, config.model.model_path) == (80, "x.gguf")
    assert (config.server.enable_cors, config.sampling.top_k) == (True, 3)
    assert {path: source for path, source in settings.sources.items() if source != "default"} == {
        "server.port": "--port",
        "server.enable_cors": "--enable-cors",
        "model.model_path": "--model",
        "sampling.top_k": "--set sampling.top_k",
        "logging.level": "--log-level",
    }


def test_a_flag_can_turn_off_what_the_file_turns_on(probe: list[tuple[Settings, str]]) -> None:
    with open("other.toml", "w") as file:
        file.write("[server]\nenable_cors = true\n")
    assert main.run(["--config", "other.toml"]) == 0
    assert main.run(["--config", "other.toml", "--no-enable-cors"]) == 0
    assert [settings.config.server.enable_cors for settings, _ in probe] == [True, False]


@pytest.mark.usefixtures("probe")
def test_help_comes_from_the_declarations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for path in ("model.model_path", "server.port", "server.api_key", "logging.level"):
        assert options()[path].description in text
    assert "[an integer from 0 to 65535; default: 8000]" in text
    assert "-m, --model PATH" in text
    assert "--enable-cors / --no-enable-cors" in text


@pytest.mark.usefixtures("probe")
def test_wrong_flags_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--port", "99999", "--log-level", "loud", "--set", "server.prot=1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --set: no such setting server.prot; did you mean server.port?",
        'error: --port: server.port must be an integer from 0 to 65535, not "99999"',
        'error: --log-level: logging.level must be one of debug, info, warning, error, not "loud"',
    ]


@pytest.mark.parametrize(
    ("environ", "level"), [({}, "WARNING"), ({"LLM_ENGINE_LOG_LEVEL": "info"}, "INFO")]
)
def test_quiet_commands_log_warnings_unless_asked(
    environ: dict[str, str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    @takes_settings(quiet=True)
    def quiet(settings: Settings) -> None: ...

    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    # As `llmengine config init` writes it: the default, which asks for nothing.
    with open("config.toml", "w") as file:
        file.write("[logging]\nlevel = 'info'\n")
    quiet(config_file=None, assignments=None)
    assert logging.getLevelName(logging.getLogger("llmengine").level) == level


# config


def test_config_show_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_ENGINE_API_KEY", "sesame")
    assert main.run(["config", "show", "--set", "server.port=81"]) == 0
    shown = capsys.readouterr().out
    assert "sesame" not in shown
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in shown.splitlines()}
    assert list(rows) == list(options())
    assert rows["server.api_key"] == ['"********"', "LLM_ENGINE_API_KEY"]
    assert rows["server.port"] == ["81", "--set server.port"]
    assert rows["sampling.seed"] == ["unset", "default"]


def test_config_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main.run(["config", "show", "--json", "--set", "server.api_key=sesame"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["server.api_key"] == {"value": "********", "source": "--set server.api_key"}
    assert rows["server.port"] == {"value": 8000, "source": "default"}
    assert rows["sampling.seed"] == {"value": None, "source": "default"}


def test_config_init_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "check"]) == 0
    assert capsys.readouterr().out == "no config file, defaults and environment: ok\n"
    assert main.run(["config", "init"]) == 0
    assert capsys.readouterr().err == "wrote config.toml\n"
    assert main.run(["config", "check"]) == 0
    assert capsys.readouterr().out == "config.toml: ok\n"
    with open("config.toml", "w") as file:
        file.write("[server]\nport = 'x'\n")
    assert main.run(["config", "init"]) == 2
    assert capsys.readouterr().err == "error: config.toml exists; --force overwrites it\n"
    assert main.run(["config", "check", "config.toml"]) == 2
    assert capsys.readouterr().err == (
        'error: config.toml:2: server.port must be an integer from 0 to 65535, not "x"\n'
    )
    assert main.run(["config", "init", "--force"]) == 0
    assert main.run(["config", "check"]) == 0
    assert main.run(["config", "init", "missing/config.toml"]) == 2
    assert capsys.readouterr().err.endswith(
        "error: missing/config.toml: cannot be written: No such file or directory\n"
    )
