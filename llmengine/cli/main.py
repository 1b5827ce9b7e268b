"""The command `llmengine`: its sub-commands, and where errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.completion

from llmengine import __version__, log
from llmengine.cli import bench, cache, chat, completion, config, doctor, keys, models, serve
from llmengine.cli import run as run_command
from llmengine.errors import EngineError

RAISE_ERRORS = "LLM_ENGINE_RAISE_ERRORS"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# What typer raises for a wrong command line. Its module differs between typer's releases.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="llmengine",
    help="Run, chat with and serve GGUF models, many requests at once.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use or settings, 3 no such model or "
    "cache entry, 4 overloaded or out of time, 130 interrupted.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmengine {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def llmengine(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# The modules import what is heavy inside their functions, so that `--help` and completion are fast.
app.command("run", **run_command.declaration)(run_command.run)
app.command("chat", **chat.declaration)(chat.chat)
app.command("serve")(serve.serve)
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("completion")(completion.completion)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line; its errors go to stderr, one line each."""
    if sys.stderr is None:
        _open_stderr()
    try:
        if completion.VARIABLE in os.environ:
            typer.completion.completion_init()  # type: ignore[attr-defined]  # teach it the shells
        command = typer.main.get_command(app)
        code = command.main(arguments, prog_name="llmengine", standalone_mode=False)
        if sys.stdout:  # None when the caller closed it
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # Typer turns a broken pipe inside a command into an exit with code 1.
        if not any(isinstance(each, BrokenPipeError) for each in (error, error.__context__)):
            raise
        # The reader has had enough. The interpreter flushes once more at its end: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(RAISE_ERRORS):
            raise
        return _report(error)


def _open_stderr() -> None:
    """Its caller closed it: what goes there is lost, and no other file gets its number."""
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (until the end)
    os.set_inheritable(sys.stderr.fileno(), True)


def _report(error: Exception) -> int:
    if isinstance(error, EngineError):
        message, code = error.message, error.exit_code
    elif isinstance(error, UsageError):
        message, code = _usage(error), 2
    elif isinstance(error, OSError):
        message, code = str(error), 1
    else:
        kind = type(error).__name__
        message = f"internal error: {kind}: {error} ({RAISE_ERRORS}=1 shows where)"
        code = 1
    label = "\x1b[31merror:\x1b[0m" if log.colour_allowed(sys.stderr) else "error:"
    for line in message.splitlines():
        print(label, log.printable(line), file=sys.stderr)
    return code


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "llmengine"
    message = error.format_message()  # type: ignore[attr-defined]
    return f"{' '.join(message.split())} (`{path} --help` shows the usage)"
