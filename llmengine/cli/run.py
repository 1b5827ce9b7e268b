"""`llmengine run`: one prompt, one answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llmengine.cli import pairs
from llmengine.cli.options import takes_settings
from llmengine.cli.stdin import check_text, is_piped, read_prompt
from llmengine.errors import InvalidRequest
from llmengine.settings import Settings

EXIT_CODES = """\
Exit codes: 0 answered (also when the reader of a pipe left early), 1 failed, 2 wrong use,
settings or prompt, also one too long for the context, 3 no such model or it cannot be loaded,
4 out of memory or time, 130 interrupted."""
declaration: dict[str, Any] = {"cls": pairs.PairCommand, "epilog": EXIT_CODES}

SETTINGS = (
    "model.model_path",
    "model.mmproj",
    "model.draft_model",
    "model.device",
    "model.context_size",
)

SystemOption = Annotated[str, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")]
PairsOption = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-o",
        metavar="KEY VALUE",
        help="Sampling parameter, like -o temperature 0.2; may be repeated. Lists are separated"
        " by commas or JSON. `llmengine config options` lists them.",
        autocompletion=pairs.complete,
    ),
]


@takes_settings(*SETTINGS, quiet=True)
def run(
    settings: Settings,
    prompt: Annotated[str | None, typer.Argument(help="What to ask.", show_default=False)] = None,
    system: SystemOption = "",
    option: PairsOption = [],  # noqa: B006  (typer reads it, nobody writes it)
    image: Annotated[
        list[Path],
        typer.Option(
            "--image", metavar="FILE", help="Image to look at, with --mmproj; may be repeated."
        ),
    ] = [],  # noqa: B006
    audio: Annotated[
        list[Path],
        typer.Option(
            "--audio", metavar="FILE", help="Recording to hear, with --mmproj; may be repeated."
        ),
    ] = [],  # noqa: B006
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Go on from the prompt, without the chat template.")
    ] = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is complete.")
    ] = False,
    think: Annotated[
        bool, typer.Option("--think", help="Let the model think first; shown on stderr.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print speed and cached tokens on stderr.")
    ] = False,
) -> None:
    """Answer a prompt: the argument, what is piped in, or both.

    What is piped in comes first, as in: git diff | llmengine run "write a commit message"
    """
    if raw and (system or think or image or audio):
        raise InvalidRequest("--raw uses no chat template: leave out --system, --think and files")
    if prompt is None and not is_piped(sys.stdin):
        raise InvalidRequest('no prompt: write llmengine run "PROMPT", or pipe one in')
    from llmengine.cli.attached import attached
    from llmengine.cli.once import Once

    once = Once(
        settings.config,
        system=check_text(system, "the system prompt"),
        given=pairs.split(option),
        json=json,
        raw=raw,
        stream=not no_stream,
        think=think,
        stats=stats,
        files=attached(image, audio),
    )
    once.answer(lambda: read_prompt(prompt, sys.stdin, raw=raw))
