"""The sampling parameters that a model's file advises."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from llmengine.sampling import SamplingParams

log = logging.getLogger("llmengine.llama")

# Our names of sampling parameters, and llama.cpp's (`llama_model_meta_key_str`).
_NAMES = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "repeat_last_n": "penalty_last_n",
    "repeat_penalty": "penalty_repeat",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


def read(metadata: Callable[[str], str | None], file: str) -> dict[str, float]:
    """The `general.sampling.*` of a GGUF by our names; none if they are impossible."""
    said = {name: metadata(f"general.sampling.{key}") for name, key in _NAMES.items()}
    advice = {name: value for name, value in said.items() if value is not None}
    try:
        checked = msgspec.convert(advice, SamplingParams, strict=False)
    except msgspec.ValidationError as error:
        log.warning("%s advises sampling that is not possible: %s", file, error)
        return {}
    return {name: getattr(checked, name) for name in advice}
