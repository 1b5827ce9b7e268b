"""What is refused before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from llmengine.config import CacheConfig, Config
from llmengine.core import Media, ModelInfo, Request
from llmengine.engine.turnover import Turnover
from llmengine.errors import ContextLengthExceeded, EngineOverloaded, InvalidRequest

if TYPE_CHECKING:  # llama.cpp, which the other side of a process does without
    from llmengine.engine.placed import Placed
    from llmengine.llama.projector import Projector


def check_room(
    request_id: str, active: Collection[str], config: Config, turnover: Turnover
) -> None:
    """Whether there is room for another request beside the active ones."""
    if request_id in active:
        raise InvalidRequest(f"a request {request_id} is already running", param="id")
    if len(active) >= config.capacity:
        wait = turnover.refuse(time.monotonic())
        raise EngineOverloaded(
            f"{len(active)} requests run or wait already: "
            f"there is a place in about {max(1, round(wait))} s",
            retry_after=wait,
        )
    if not active:
        turnover.began(time.monotonic())


def check_request(request: Request, info: ModelInfo, cache: CacheConfig) -> None:
    if not info.generates:
        raise InvalidRequest(
            f"{info.name} reads text and cannot write any: use /v1/embeddings",
            param="model",
            code="unsupported_model",
        )
    most = info.max_sequence_length - 1
    check_tokens(request.prompt, info, most, "prompt", media=bool(request.media))
    if request.keep is not None:
        _check_keep(request, info)
    if request.prediction:
        check_tokens(request.prediction, info, info.max_sequence_length, "prediction")
    if request.warm:
        _check_warm(len(request.prompt), cache)


def check_media(media: Media, info: ModelInfo) -> None:
    """Whether the model takes it at all."""
    if media.kind not in info.media:
        what = {"image": "images", "audio": "sound"}[media.kind]
        remedy = (
            f"its projector is for {' and '.join(info.media)} only"
            if info.media
            else "start it with --mmproj and the projector that belongs to the model"
        )
        raise InvalidRequest(
            f"{info.name} takes no {what}: {remedy}", param="messages", code="unsupported_content"
        )


def check_spans(media: Sequence[Placed], projector: Projector | None, rows: int) -> None:
    """Whether each image that must not be divided fits into a batch of `rows`."""
    longest = max((each.span.length for each in media if each.media.kind == "image"), default=0)
    if projector and projector.undivided and longest > rows:
        raise InvalidRequest(
            f"an image of this model takes {longest} tokens in one batch, and {rows} are the most: "
            "raise performance.prefill_batch, with performance.deterministic off"
        )


def check_inputs(inputs: Sequence[Sequence[int]], info: ModelInfo) -> None:
    """Those of `Host.embed`."""
    if not inputs:
        raise InvalidRequest("there is no input", param="input")
    for each in inputs:
        check_tokens(each, info, info.max_sequence_length, "input")


def check_tokens(
    tokens: Sequence[int], info: ModelInfo, most: int, name: str, *, media: bool = False
) -> None:
    """With `media`, negative ids are allowed; those are looked at elsewhere."""
    if not tokens:
        raise InvalidRequest(f"the {name} is empty", param=name)
    if len(tokens) > most:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {info.max_sequence_length} tokens, "
            f"but the {name} has {len(tokens)}: shorten it",
            param=name,
        )
    if (min(tokens) < 0 and not media) or max(tokens) >= info.vocabulary:
        raise InvalidRequest(
            f"the {name} has token ids outside 0..{info.vocabulary - 1}", param=name
        )


def _check_keep(request: Request, info: ModelInfo) -> None:
    keep = request.keep or 0
    if request.media:
        raise InvalidRequest(
            "`overflow`: images and sound cannot be dropped while the model writes",
            param="overflow",
            code="unsupported_parameter",
        )
    if not info.shifts:
        raise InvalidRequest(
            f"`overflow`: {info.name} cannot drop tokens while it writes, as models with recurrent "
            "layers or positions in several dimensions, and performance.deterministic, cannot",
            param="overflow",
            code="unsupported_parameter",
        )
    most = info.max_sequence_length * 3 // 4
    if keep > most:
        raise InvalidRequest(
            f"`n_keep`: {keep} tokens at the head would stay, and {most} may: three quarters of "
            "the context",
            param="n_keep",
        )


def _check_warm(length: int, cache: CacheConfig) -> None:
    if not cache.stores:
        raise InvalidRequest(
            "there is no prompt cache to warm: set cache.enabled and cache.max_size_mb",
            param="warm",
        )
    if length < cache.min_tokens:
        raise InvalidRequest(
            f"the prompt has {length} tokens, and those shorter than "
            f"cache.min_tokens = {cache.min_tokens} are not kept",
            param="warm",
        )
