"""Which GGUF file the setting `model.model_path` means."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from llmengine.config import ModelConfig
from llmengine.errors import ModelNotFound
from llmengine.llama.parts import parts

EMBEDDED = "tiny-chat"
SUFFIX = ".gguf"
MAX_PATH = 4096

_NAMES = {"model": "model", "mmproj": "projector", "draft_model": "draft model"}
_PACKAGE = Path(__file__).parent.parent
# Only the first file of a split model is named; llama.cpp finds the others itself.
_LATER_PART = re.compile(r"-(?!0*1-of)\d+-of-\d+\.gguf$")


def find(config: ModelConfig) -> Path:
    """The GGUF file of `config`: a path, the name of a model, or the embedded one for "".

    Raises ModelNotFound, which says where it looked and names the nearest model.
    """
    return _find(config.model_path, config, "model")


def find_projector(config: ModelConfig) -> Path | None:
    """The GGUF file of the projector, where `config` names one; raises ModelNotFound."""
    return _find(config.mmproj, config, "mmproj") if config.mmproj else None


def find_draft(config: ModelConfig) -> Path | None:
    """The GGUF file of the draft model, where `config` names one; raises ModelNotFound."""
    return _find(config.draft_model, config, "draft_model") if config.draft_model else None


def _find(wanted: str, config: ModelConfig, param: str) -> Path:
    if "\0" in wanted or len(wanted) > MAX_PATH:
        raise ModelNotFound("no file can have the name that was given", param=param)
    places = [Path(wanted).expanduser(), *_places(wanted, config)] if wanted else [_embedded()]
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is None:
        known = list(projectors(config) if param == "mmproj" else listing(config))
        raise ModelNotFound(_explain(_NAMES[param], wanted, places, known), param=param)
    return found


def size_of(path: Path) -> int:
    """Bytes of a model: of its file, or of all files of one that is split."""
    return sum(each.stat().st_size for each in parts(path))


def listing(config: ModelConfig) -> dict[str, Path]:
    """The models that can be named, without `.gguf`: those of models_dir, the user's, ours."""
    found = {name: path for name, path in _files(config).items() if not _is_projector(name)}
    if (embedded := _embedded()).is_file():
        found.setdefault(EMBEDDED, embedded)
    return found


def projectors(config: ModelConfig) -> dict[str, Path]:
    """The projectors that can be named, without `.gguf`: those whose names say what they are."""
    return {name: path for name, path in _files(config).items() if _is_projector(name)}


def _files(config: ModelConfig) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(config):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.is_file() and not _LATER_PART.search(path.name):
                found.setdefault(path.stem, path)
    return found


def _is_projector(name: str) -> bool:
    return name.startswith("mmproj")


def folders(config: ModelConfig) -> list[Path]:
    """Where models are looked up by name, in this order."""
    user = Path(platformdirs.user_data_dir("llmengine", appauthor=False)) / "models"
    return [Path(config.models_dir).expanduser(), user]


def _places(name: str, config: ModelConfig) -> Iterator[Path]:
    """The files that a name may mean; none if it is a path, so names stay inside the folders."""
    if os.path.basename(name) != name or name in (".", ".."):
        return
    for folder in folders(config):
        yield folder / name
        yield folder / f"{name}{SUFFIX}"
    if name in (EMBEDDED, f"{EMBEDDED}{SUFFIX}"):
        yield _embedded()


def _embedded() -> Path:
    """In the wheel the model lies in the package, in a checkout beside it."""
    file = f"{EMBEDDED}{SUFFIX}"
    packaged = _PACKAGE / "data" / file
    return packaged if packaged.is_file() else _PACKAGE.parent / "models" / file


def _explain(what: str, wanted: str, places: list[Path], known: list[str]) -> str:
    if not wanted:
        return f"the embedded model {places[0]} is missing; name a GGUF file with --model"
    if os.path.isdir(places[0]):
        inside = sorted(path.name for path in places[0].glob(f"*{SUFFIX}"))
        hint = f"name a file in it, like {inside[0]}" if inside else "it holds no .gguf files"
        return f"{wanted} is a folder, not a GGUF file; {hint}"
    near = difflib.get_close_matches(Path(wanted).stem, known, n=1)
    if near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = f"known: {', '.join(known)}" if known else f"no {what}s are installed"
    looked = ", ".join(str(place) for place in places)
    return f"no {what} {wanted}: looked for {looked}; {hint}"
