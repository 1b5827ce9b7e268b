"""`llmengine bench serve`: a server under load, ours or another's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from llmengine.cli import bench_shape
from llmengine.cli.bench_output import Csv, Json, Output, Plot, Save, measured, say
from llmengine.cli.bench_shape import Shape, numbers
from llmengine.cli.options import takes_settings
from llmengine.errors import InvalidRequest
from llmengine.settings import Settings

if TYPE_CHECKING:
    from llmengine.bench.local import Found
    from llmengine.bench.server import Plan

SHAPED_CELLS = 8192  # of the KV cache of a shape, where the settings leave it open


def _workload_names(incomplete: str) -> list[str]:
    from llmengine.bench.workloads import WORKLOADS

    before = incomplete[: incomplete.rfind(",") + 1]
    return [f"{before}{name}" for name in (*WORKLOADS, *([] if before else ["all"]))]


def _size(text: str) -> Any:
    return typer.Option(min=1, show_default=False, metavar="N", help=text)


@takes_settings(
    "model.model_path",
    "model.context_size",
    "server.max_concurrent_requests",
    "performance.threads",
    quiet=True,
)
def serve(
    settings: Settings,
    url: Annotated[
        str, typer.Option(metavar="URL", help="A running server; else one is started.")
    ] = "",
    key: Annotated[str, typer.Option(metavar="KEY", help="Its API key.")] = "",
    shape: Shape = "",
    workload: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="random, shared-prefix, multi-turn, long-prompt-arrives, burst, json-schema, "
            "repetitive-edit, or all.",
            autocompletion=_workload_names,
        ),
    ] = "random",
    replay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Requests as JSON lines, in place of a workload."),
    ] = None,
    clients: Annotated[
        str, typer.Option(metavar="N,N,...", help="Clients that each wait for their answer.")
    ] = "1,2,4,8",
    rate: Annotated[
        str,
        typer.Option(
            metavar="R,R,...", help="Requests a second, arriving at random, in place of clients."
        ),
    ] = "",
    requests: Annotated[int | None, _size("Conversations of each load.")] = None,
    input: Annotated[int | None, _size("Tokens of a prompt, or of each turn.")] = None,
    output: Annotated[int | None, _size("Tokens of an answer.")] = None,
    prefix: Annotated[int | None, _size("Tokens of what is shared, or long.")] = None,
    turns: Annotated[int | None, _size("Turns of a conversation.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Measure each load so often.")
    ] = 1,
    goodput: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY:MS", help="What a good request keeps to, like ttft:500 tpot:50 e2el:9000."
        ),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="KEY:MS", hidden=True)] = None,
    body: Annotated[str, typer.Option(metavar="JSON", help="Parameters of every request.")] = "",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Ask the same in every run.")
    ] = None,
    json: Json = False,
    csv: Csv = False,
    save: Save = None,
    plot: Plot = None,
) -> None:
    """Measure a server under load: any that speaks OpenAI's API.

    The figures have the names of `vllm bench serve`: TTFT, TPOT, ITL and E2EL in ms, throughput,
    goodput. What a server refuses with 429 or 503 and what fails is counted; the exit code is 1
    where nothing else came. In a pipe the columns are those of the tables, of the rows first and
    then of their latencies.
    """
    from llmengine.bench.figures import goodput as objectives
    from llmengine.bench.replay import read
    from llmengine.bench.server import Plan

    given = {"count": requests, "input": input, "output": output, "prefix": prefix, "turns": turns}
    reporting = Output(json=json, csv=csv, save=save, plot=plot)
    plan = Plan(
        workloads=_workloads(workload),
        clients=numbers("--clients", clients, 1, 10_000),
        rates=_rates(rate),
        recorded=read(replay) if replay else (),
        sizes={name: value for name, value in given.items() if value is not None},
        rounds=rounds,
        seed=seed,
        goodput=objectives([*(goodput or ()), *(more or ())]),
        model=_named(settings) if url else "",
        body=_parameters(body),
    )
    with measured("server", reporting) as found:
        _measure(settings, shape, url, key, plan, found)
    if not any(row.figures["completed"].most for row in found.rows):
        raise typer.Exit(1)


def _measure(settings: Settings, shape: str, url: str, key: str, plan: Plan, found: Found) -> None:
    from llmengine.bench.server import measure
    from llmengine.cli.bench_progress import shown
    from llmengine.loop import run_until_interrupted

    with _server(settings, shape, url, key, found) as (url, key), shown() as progress:
        run_until_interrupted(measure(url, key, plan, found, progress))


@contextmanager
def _server(
    settings: Settings, shape: str, url: str, key: str, found: Found
) -> Iterator[tuple[str, str]]:
    """URL and key of the server that was named, or of one that is started."""
    if url:
        if shape:
            raise InvalidRequest("--url and --shape exclude each other")
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"--url {url!r} must begin with http:// or https://")
        yield url, key
        return
    from llmengine.bench.own_server import own_server

    cells = settings.config.model.context_size or SHAPED_CELLS
    with bench_shape.chosen(settings, shape, cells, found) as config:
        say("starting a server")
        with own_server(config) as own:
            yield own, ""


def _named(settings: Settings) -> str:
    """The model that a flag names; those of the settings are ours."""
    source = settings.sources["model.model_path"]
    return settings.config.model.model_path if source.startswith("--") else ""


def _workloads(text: str) -> tuple[str, ...]:
    from llmengine.bench.workloads import WORKLOADS

    if text == "all":
        return tuple(WORKLOADS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown or not names:
        known = ", ".join(WORKLOADS)
        raise InvalidRequest(f"no workload is called {', '.join(unknown)!r}; known are {known}")
    return names


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        rates = (0.0,)
    if not all(0 < rate < 1e6 for rate in rates):
        raise InvalidRequest(f"--rate {text!r} is no list of requests per second")
    return rates


def _parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"--body is no JSON object: {error}") from error
