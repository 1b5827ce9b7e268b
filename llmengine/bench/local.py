"""`llmengine bench`: a model measured in this process, as far as it gets."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

from llmengine.bench import limits, speed
from llmengine.bench.limits import Limits
from llmengine.bench.progress import Progress
from llmengine.bench.report import Row, Spread
from llmengine.bench.speed import Plan, Trial
from llmengine.bench.stepper import Stepper
from llmengine.config import Config
from llmengine.engine import sizing
from llmengine.errors import InvalidRequest
from llmengine.llama.model import Model
from llmengine.llama.traits import traits_of
from llmengine.llama.work import Work, work_of
from llmengine.models.locate import find

DOUBTFUL = 1.1  # of a limit
BUSY = "shares above 100 % tell that the machine was busy while its limits were measured"


@dataclass
class Found:
    """What is known so far; it stays when the run is interrupted."""

    target: str = ""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure(
    config: Config, plan: Plan, found: Found, progress: Progress, *, with_limits: bool = True
) -> None:
    """Measure the model of the settings, row by row.

    Raises what loading it raises, and InvalidRequest where there is nothing to measure.
    """
    with closing(Model(find(config.model), config)) as model:
        found.target = found.target or f"{model.path.name}, {model.description}"
        trials = possible(plan, model, found.notes)
        threads = sizing.threads(config)
        work = work_of(model)
        measured = None
        if with_limits:
            progress.begin("limits of the machine", 1)
            measured = limits.measure(model, work, config, threads)
            progress.advance()
            computing = [each.description for each in model.devices] or [f"{threads} threads"]
            found.notes.append(worded(measured, work, ", ".join(computing)))
        cells = max(trial.cells for trial in trials)
        streams = max(1, *(trial.streams for trial in trials))
        with closing(
            Stepper(model, config, cells=cells, sequences=streams, threads=threads)
        ) as stepper:
            for trial, rates in speed.run(stepper, trials, plan, progress):
                used = _share(trial, rates, work, measured, sizing.cell_bytes(model, config))
                found.rows.append(speed.row(trial, rates, used))
                if used and max(used.memory, used.arithmetic) > DOUBTFUL:
                    _note_once(found.notes, BUSY)


def _note_once(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def possible(plan: Plan, model: Model, notes: list[str]) -> list[Trial]:
    """The trials that the model's context has room for; the others are noted."""
    if not traits_of(model).generates:
        raise InvalidRequest(f"{model.path.name} writes no text: there is no speed of it")
    trials = plan.trials()
    longest = model.context_length
    fitting = [trial for trial in trials if trial.length <= longest]
    if not fitting:
        raise InvalidRequest(
            f"there is nothing to measure: {model.path.name} has a context of {longest} tokens; "
            "choose other --prompt, --generate, --depth or --batch"
        )
    if len(fitting) < len(trials):
        left = ", ".join(trial.name for trial in trials if trial not in fitting)
        notes.append(f"left out, beyond the model's context of {longest} tokens: {left}")
    return fitting


def worded(measured: Limits, work: Work, computing: str) -> str:
    read = work.read_by(1)
    size = f"{read / 1e9:.2f} GB" if read >= 1e9 else f"{read / 1e6:.1f} MB"
    return (
        f"limits of {computing}: {measured.bandwidth / 1e9:.1f} GB/s of memory, of which a "
        f"token reads {size}; {measured.arithmetic / 1e12:.3f} TFLOP/s with {measured.kind}"
    )


def _share(
    trial: Trial, rates: list[float], work: Work, measured: Limits | None, cell_bytes: int
) -> speed.Share | None:
    if measured is None:
        return None
    return speed.share(trial, Spread.of(rates).median, work, measured, cell_bytes)
