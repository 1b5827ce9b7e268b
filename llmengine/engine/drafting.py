"""The draft model that the settings name: loaded, checked, with a context of its own."""

from __future__ import annotations

from llmengine.config import Config
from llmengine.engine import sizing
from llmengine.engine.draft_model import SHARE, DraftModel
from llmengine.engine.pacer import Pacer
from llmengine.engine.readings import Readings
from llmengine.errors import ConfigError
from llmengine.llama import kinship
from llmengine.llama.context import Context
from llmengine.llama.model import Model
from llmengine.llama.traits import traits_of
from llmengine.models import locate


def load(model: Model, config: Config) -> Model | None:
    """The weights of the draft model for `model`, None if there is to be none.

    Raises ConfigError where the two do not go together, and what loading a model does.
    """
    path = locate.find_draft(config.model)
    if path is None:
        return None
    _check(model, "model.model_path")
    draft = Model(path, config)
    try:
        _check(draft, "model.draft_model")
        reason = kinship.difference(model, draft)
        if reason:
            raise ConfigError(
                f"{path.name} cannot draft for {model.path.name}: {reason}; choose one of the same "
                "family, or none",
                param="model.draft_model",
            )
    except BaseException:
        draft.close()
        raise
    return draft


def _check(model: Model, param: str) -> None:
    if not traits_of(model).generates:
        problem = "it writes no text"
    elif not model.can_truncate:
        problem = "its recurrent layers cannot take back what was guessed wrong"
    else:
        return
    raise ConfigError(
        f"model.draft_model cannot be used with {model.path.name}: {problem}", param=param
    )


def context(draft: Model, config: Config, *, cells: int, sequences: int, threads: int) -> Context:
    """As many cells and sequences as the model's own context has; raises OutOfMemory."""
    settings = sizing.of_draft(config)
    return Context(draft, settings, cells=cells, sequences=sequences, threads=threads)


def draft_model(own: Context, model: Model, config: Config) -> DraftModel:
    patience = SHARE * config.performance.max_itl_ms / 1000
    return DraftModel(
        Readings(own),
        Pacer(patience, own.rows),
        rows=own.rows,
        vocabulary=min(model.vocabulary, own.model.vocabulary),
        ends=model.end_tokens,
    )
