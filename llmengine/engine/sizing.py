"""How large the KV cache and a request may be, from the model, the settings and the memory."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from llmengine import hardware
from llmengine.config import Config
from llmengine.errors import ConfigError
from llmengine.llama.context import DETERMINISTIC_ROWS, kv_value_bytes
from llmengine.llama.model import Model
from llmengine.llama.traits import traits_of

log = logging.getLogger("llmengine.engine")

_AUTO_SEQUENCES = 4  # whole contexts that the automatic KV cache holds
_AUTO_CELLS = 32_768  # tokens it has at most
_AUTO_MEMORY = 0.25  # share of the free memory it takes at most
_SMALLEST = 256  # tokens
_DRAFT_ROWS = 128  # of a draft model's batch: larger ones are hardly faster, and take memory


def cell_bytes(model: Model, config: Config) -> int:
    """Bytes of KV cache per token."""
    return model.kv_bytes_per_token(kv_value_bytes(config.model.kv_type))


def context_cells(model: Model, config: Config) -> int:
    """Tokens that the KV cache holds."""
    if not traits_of(model).generates:
        return _SMALLEST
    if config.model.context_size:
        return max(config.model.context_size, _SMALLEST)
    sequence = config.model.max_sequence_length or model.context_length
    wanted = max(min(_AUTO_SEQUENCES * sequence, _AUTO_CELLS), min(sequence, _AUTO_CELLS))
    memory = sum(each.memory_free for each in model.devices) or hardware.memory().available
    fits = int(memory * _AUTO_MEMORY / max(1, cell_bytes(model, config)))
    return max(min(wanted, fits), _SMALLEST)


def sequence_length(model: Model, config: Config, cells: int) -> int:
    """Tokens that prompt and completion of a request may have together.

    Raises ConfigError when the setting asks for more than the KV cache holds.
    """
    wanted = config.model.max_sequence_length
    if not traits_of(model).generates:
        return min(wanted or model.context_length, model.context_length)
    if not wanted:
        return min(model.context_length or cells, cells)
    if wanted > cells:
        raise ConfigError(
            f"model.max_sequence_length = {wanted} does not fit into a KV cache of {cells} tokens: "
            "raise model.context_size"
        )
    if model.context_length and wanted > model.context_length:
        log.warning(
            "max_sequence_length %d is beyond the %d tokens this model was trained for",
            wanted,
            model.context_length,
        )
    return wanted


def check(config: Config) -> None:
    """Refuse settings that contradict each other."""
    if config.model.flash_attention == "off":
        for name, needs in (
            ("performance.deterministic", config.performance.deterministic),
            (f'model.kv_type = "{config.model.kv_type}"', config.model.kv_type != "f16"),
        ):
            if needs:
                raise ConfigError(
                    f'{name} needs flash attention: set model.flash_attention to "auto" or "on"'
                )
    if config.model.draft_model:
        _check_draft(config)
    if config.performance.deterministic and config.model.overflow == "shift":
        raise ConfigError(
            'performance.deterministic promises equal bits, which model.overflow = "shift" '
            'cannot give: choose "error" or "truncate_left"'
        )
    if config.performance.deterministic and config.slots > DETERMINISTIC_ROWS:
        raise ConfigError(
            f"performance.deterministic decodes at most {DETERMINISTIC_ROWS} sequences together: "
            "lower performance.batch_size"
        )


def _check_draft(config: Config) -> None:
    if config.performance.speculation == "off":
        raise ConfigError(
            'model.draft_model is of no use with performance.speculation = "off": drop one of them',
            param="model.draft_model",
        )
    if config.performance.deterministic:
        raise ConfigError(
            "performance.deterministic promises equal bits, which drafts would change: drop "
            "model.draft_model",
            param="model.draft_model",
        )


def of_draft(config: Config) -> Config:
    """The settings of a draft model's own context."""
    rows = min(config.performance.prefill_batch, _DRAFT_ROWS)
    return replace(config, performance=replace(config.performance, prefill_batch=rows))


def threads(config: Config) -> int:
    """Threads to compute with: those asked for, or the cores this process may use."""
    return config.performance.threads or hardware.cores()
