"""Which parameters are honoured, which are refused, and what becomes of the unknown ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.core import ModelInfo
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams, override
from llmengine.server.bodies import Body

# They change nothing in an answer: a server of one's own has no tiers, stores or customers.
HARMLESS = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)

# Parameters of OpenAI's that cannot be honoured, with the values that ask for nothing.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "modalities": (["text"],),
    "moderation": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def unknown(
    body: Struct,
    fields: Mapping[str, Any],
    *,
    strict: bool,
    refused: Mapping[str, tuple[Any, ...]] = REFUSED,
    harmless: Set[str] = HARMLESS,
) -> list[str]:
    """The names in `fields` that mean nothing here.

    Raises InvalidRequest for a known parameter that cannot be honoured and, if `strict`, for an
    unknown one.
    """
    for name, idle in refused.items():
        if fields.get(name) is not None and fields[name] not in idle:
            offered = " or ".join(json.dumps(each) for each in idle)
            but = f", but for {offered}" if idle else ""
            raise InvalidRequest(
                f"`{name}` is not offered by this server{but}",
                param=name,
                code="unsupported_parameter",
            )
    known = {*body.__struct_fields__, *harmless, *refused}
    found = [name for name in fields if name not in known]
    if found and strict:
        raise InvalidRequest(
            f"unknown parameter{'s' * (len(found) > 1)} {', '.join(map(repr, found))}",
            param=found[0],
            code="unknown_parameter",
        )
    return found


def sampling(body: Body, defaults: SamplingParams, info: ModelInfo, **more: Any) -> SamplingParams:
    """The parameters of a request's first choice; `more` has what its endpoint makes of it."""
    stop = (body.stop,) if isinstance(body.stop, str) else body.stop
    if stop is not None:
        more["stop"] = stop
    if body.seed is not None:
        more["seed"] = body.seed % 2**32
    params = override(defaults, body, **more)
    beyond = [token for token in params.logit_bias if token >= info.vocabulary]
    if beyond:
        raise InvalidRequest(
            f"`logit_bias`: the model has {info.vocabulary} tokens, {beyond[0]} is none of them",
            param="logit_bias",
        )
    return params


def of_choice(params: SamplingParams, index: int) -> SamplingParams:
    """The parameters of one choice: each has a seed of its own, derived from the given one."""
    if params.seed is None or index == 0:
        return params
    return msgspec.structs.replace(params, seed=(params.seed + index) % 2**32)
