"""`llmengine bench`: how fast a model is here, and a server under load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmengine.cli import bench_shape
from llmengine.cli.bench_output import Csv, Json, Output, Plot, Save, measured
from llmengine.cli.bench_serve import serve
from llmengine.cli.bench_shape import Shape, numbers
from llmengine.cli.options import takes_settings
from llmengine.settings import Settings

DEFAULT = "model"


class _Group(TyperGroup):
    """Without a sub-command, DEFAULT is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args:
            meant = args[0].startswith("-") and args[0] not in ("-h", "--help")
        else:
            meant = not ctx.resilient_parsing  # a shell completes what may be a sub-command
        return super().parse_args(ctx, [DEFAULT, *args] if meant else args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            own = {each.value for each in found}
            flags = self.commands[DEFAULT].shell_complete(ctx, incomplete)
            found += [each for each in flags if each.value not in own]
        return found


app = typer.Typer(
    cls=_Group,
    help="Measure a model on this machine, or a server under load.\n\n"
    "`llmengine bench -m MODEL` is `llmengine bench model -m MODEL`.",
)
app.command("serve")(serve)


@app.command(DEFAULT)
@takes_settings("model.model_path", "model.device", "performance.threads", quiet=True)
def model(
    settings: Settings,
    shape: Shape = "",
    prompt: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tokens of a prompt; 0: no such test.")
    ] = 512,
    generate: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tokens to generate; 0: none.")
    ] = 128,
    depth: Annotated[
        str, typer.Option(metavar="N,N,...", help="Tokens that come before them.")
    ] = "0,4096",
    batch: Annotated[
        str, typer.Option(metavar="N,N,...", help="Streams that are decoded together; '': none.")
    ] = "1,2,4,8,16,32",
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, metavar="N", help="Of each test.")
    ] = 5,
    seconds: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="After so long a test is not repeated again."),
    ] = 60.0,
    limits: Annotated[bool, typer.Option(help="Measure the machine's limits as well.")] = True,
    json: Json = False,
    csv: Csv = False,
    save: Save = None,
    plot: Plot = None,
) -> None:
    """Measure prefill and decoding, beside the machine's limits.

    The tests are those of llama-bench: pp512 is a prompt of 512 tokens, tg128 the generation of
    128, @ d4096 behind 4,096 others, and B=8 the generation of eight streams together. Each test is
    warmed up once. In a pipe the columns are: test, tokens per second, share of the memory
    bandwidth, share of the arithmetic.
    """
    from llmengine.bench import local
    from llmengine.bench.speed import Plan
    from llmengine.cli.bench_progress import shown

    plan = Plan(
        prompt=prompt,
        generate=generate,
        depths=numbers("--depth", depth, 0, 2**24),
        batches=numbers("--batch", batch, 1, 128),
        repetitions=repetitions,
        seconds=seconds,
    )
    with (
        measured("model", Output(json=json, csv=csv, save=save, plot=plot)) as found,
        bench_shape.chosen(settings, shape, plan.cells, found) as config,
        shown() as progress,
    ):
        local.measure(config, plan, found, progress, with_limits=limits)


def _report(metavar: str) -> Any:
    return typer.Argument(metavar=metavar, help="A report of --json or --save.")


@app.command()
def compare(
    before: Annotated[Path, _report("BEFORE.json")],
    after: Annotated[Path, _report("AFTER.json")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two reports, figure by figure.

    `better` and `worse`: the ranges of the rounds lie apart; `noise`: they overlap; `unknown`: one
    of them has a single round, which does not tell how it varies. In a pipe the columns are: row,
    figure, before, after, ratio, mark.
    """
    import msgspec

    from llmengine.bench.compare import differences
    from llmengine.bench.report import load
    from llmengine.cli.bench_table import show_differences

    found = list(differences(load(before), load(after)))
    if json:
        rows = [
            {**msgspec.to_builtins(each), "ratio": each.ratio, "mark": each.mark} for each in found
        ]
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)))
    else:
        show_differences(found)
