"""`llmengine doctor`: what is installed here, what is missing, and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from llmengine import __version__, hardware, log
from llmengine.cli import advice
from llmengine.cli.options import takes_settings
from llmengine.config import ModelConfig
from llmengine.errors import EngineError
from llmengine.settings import Settings

GIB = 1 << 30


class ModelFile(Struct, frozen=True):
    path: str
    size_bytes: int
    description: str  # name, architecture, size and quantization


class Gpu(Struct, frozen=True):
    name: str
    description: str
    memory_free: int
    memory_total: int

    def __str__(self) -> str:
        free, total = self.memory_free / GIB, self.memory_total / GIB
        return f"{self.name}: {self.description}, {free:.1f} of {total:.1f} GiB free"


class Report(Struct):
    """What `llmengine doctor --json` prints. Sizes in bytes."""

    version: str
    python: str
    system: str
    cores: int  # that this process may use
    machine_cores: int
    memory_total: int
    memory_available: int
    config_file: str | None
    llama_cpp: str | None = None  # version of llama-cpp-python
    cpu_features: list[str] = []  # compiled in
    devices: list[Gpu] = []  # that this build can use
    model: ModelFile | None = None
    draft_model: ModelFile | None = None  # where the settings name one
    mmproj: ModelFile | None = None  # the same
    problems: list[str] = []  # what keeps llmengine from working
    advice: list[str] = []  # what would make it faster


@takes_settings("model.model_path", "model.draft_model", "model.mmproj", "model.device", quiet=True)
def doctor(
    settings: Settings,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is installed and what is missing.

    The exit code is 1 if something that llmengine needs is missing.
    """
    report = examine(settings)
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        for line in _lines(report):
            typer.echo(line)
    if report.problems:
        raise typer.Exit(1)


def examine(settings: Settings) -> Report:
    memory = hardware.memory()
    report = Report(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=hardware.cores(),
        machine_cores=hardware.machine_cores(),
        memory_total=memory.total,
        memory_available=memory.available,
        config_file=str(settings.file) if settings.file else None,
    )
    usable = _examine_build(report, settings.config.model.device)
    _examine_models(report, settings.config.model, readable=usable)
    return report


def _examine_build(report: Report, wanted: str) -> bool:
    """Whether llama.cpp can be loaded."""
    from importlib import metadata

    try:
        from llmengine.llama import device, library

        report.llama_cpp = metadata.version(advice.PACKAGE)
        report.cpu_features = advice.compiled_features(library.system_info())
        report.devices = [
            Gpu(each.name, each.description, each.memory_free, each.memory_total)
            for each in device.devices()
        ]
    except (ImportError, OSError, RuntimeError) as error:  # as llama_cpp fails to load
        reason = " ".join(str(error).split())
        report.problems.append(f"llama.cpp cannot be loaded ({reason}): {advice.build_command()}")
        return False
    try:
        device.choose(wanted)
    except EngineError as error:
        report.problems.append(error.message)
    _advise(report)
    return True


def _advise(report: Report) -> None:
    compiled, flags = set(report.cpu_features), advice.cpu_flags()
    if missing := advice.missing_features(compiled, flags):
        report.problems.append(
            f"llama.cpp was built for {', '.join(missing)}, which this CPU lacks; build it here: "
            f"{advice.build_command(version=report.llama_cpp)}"
        )
    if unused := advice.unused_features(compiled, flags):
        report.advice.append(
            f"this CPU has {', '.join(unused)}, which llama.cpp was not built for; build it here: "
            f"{advice.build_command(version=report.llama_cpp)}"
        )
    if not report.devices:
        report.advice += [
            f"a GPU for {backend} is present, but llama.cpp was not built for it: "
            f"{advice.build_command(backend, report.llama_cpp)}"
            for backend in advice.gpu_backends()
        ]


def _examine_models(report: Report, config: ModelConfig, *, readable: bool) -> None:
    from llmengine.models import locate

    def examined(
        find: Callable[[ModelConfig], Path | None], describe: Callable[[Path], str]
    ) -> ModelFile | None:
        try:
            path = find(config)
            if path is None:
                return None
            size = locate.size_of(path)
            return ModelFile(str(path), size, describe(path) if readable else "")
        except EngineError as error:
            report.problems.append(error.message)
            return None

    report.model = examined(locate.find, _describe_model)
    report.draft_model = examined(locate.find_draft, _describe_model)
    report.mmproj = examined(locate.find_projector, _describe_projector)


def _describe_projector(path: Path) -> str:
    """Nothing: only beside its model could llama.cpp say more than that it is a GGUF file."""
    from llmengine.llama.model import check_file

    check_file(path)
    return ""


def _describe_model(path: Path) -> str:
    """Name, architecture, size and quantization, as far as the file's header gives them."""
    import llama_cpp

    from llmengine.errors import ModelUnavailable
    from llmengine.llama import library
    from llmengine.llama.model import check_file

    check_file(path)
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    library.forget_errors()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        reason = library.last_error("it is damaged or of an unknown kind")
        raise ModelUnavailable(f"cannot load {path}: {reason}")
    keys = ("general.name", "general.architecture", "general.size_label")
    fields = [_metadata(model, key) for key in keys]
    file_type = _metadata(model, "general.file_type")
    llama_cpp.llama_model_free(model)
    return ", ".join(filter(None, [*fields, _quantization(file_type)]))


def _metadata(model: Any, key: str) -> str:
    import ctypes

    import llama_cpp

    buffer = ctypes.create_string_buffer(256)
    llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    text: bytes = buffer.value
    return log.printable(text.decode("utf-8", "replace"))


def _quantization(file_type: str) -> str:
    """`Q4_K_M` for the number of `LLAMA_FTYPE_MOSTLY_Q4_K_M`."""
    import llama_cpp

    names: dict[str, str] = {
        str(value): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
        for name, value in vars(llama_cpp).items()
        if name.startswith("LLAMA_FTYPE_")
    }
    return names.get(file_type, "")


def _lines(report: Report) -> list[str]:
    free, total = report.memory_available / GIB, report.memory_total / GIB
    build = ", ".join(report.cpu_features)
    rows = {
        "llmengine": f"{report.version}, Python {report.python}, {report.system}",
        "llama.cpp": f"{report.llama_cpp} ({build})" if report.llama_cpp else "not usable",
        "devices": "; ".join(map(str, report.devices)) or "CPU",
        "cores": f"{report.cores} of {report.machine_cores} may be used",
        "memory": f"{free:.1f} of {total:.1f} GiB available",
        "config": report.config_file or "no file, defaults",
        "model": _model_line(report.model),
    }
    for name, found in (("draft", report.draft_model), ("mmproj", report.mmproj)):
        if found:
            rows[name] = _model_line(found)
    return [
        *(f"{name:<10} {text}" for name, text in rows.items()),
        *(f"problem: {each}" for each in report.problems),
        *(f"advice: {each}" for each in report.advice),
    ]


def _model_line(model: ModelFile | None) -> str:
    if model is None:
        return "none"
    size = f"{model.size_bytes / (1 << 20):.1f} MiB"
    return f"{model.path}, {size}" + (f", {model.description}" if model.description else "")
