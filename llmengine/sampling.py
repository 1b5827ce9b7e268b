"""How the next token is chosen: one declaration for JSON bodies, TOML, environment and flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20

Probability = Annotated[float, Meta(ge=0, le=1)]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]


class Constraint(Struct, frozen=True):
    """What the text of an answer must follow, from its first token to its last."""

    kind: Literal["json_object", "json_schema", "regex", "choice", "lark", "gbnf"]
    # The schema's JSON, the expression, a JSON list of strings, or the grammar; for lark see
    # https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
    source: str = ""
    # Tags of a thinking block that may stand before; without the first, the prompt has opened it.
    thinking: tuple[str, str] | None = None
    param: str = "grammar"  # the parameter that it came from, for refusals


class SamplingParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samplers of llama.cpp (`llama_sampler_init_*` in llama.h), in the order they run.

    Defaults are llama.cpp's own (`common_params_sampling`).
    """

    temperature: Annotated[
        float, Meta(ge=0, le=100, description="Randomness; 0 takes the likeliest token.")
    ] = 0.8
    top_k: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="Keep the k likeliest tokens; 0 keeps all.")
    ] = 40
    top_p: Annotated[
        float,
        Meta(ge=0, le=1, description="Keep the likeliest tokens up to this probability mass."),
    ] = 0.95
    min_p: Annotated[
        float, Meta(ge=0, le=1, description="Drop tokens below this share of the likeliest one.")
    ] = 0.05
    typical_p: Annotated[
        float, Meta(ge=0, le=1, description="Locally typical sampling; 1 is off.")
    ] = 1.0
    top_n_sigma: Annotated[
        float,
        Meta(ge=-1, le=100, description="Keep logits within n deviations of the top; -1 is off."),
    ] = -1.0
    xtc_probability: Annotated[
        float, Meta(ge=0, le=1, description="Chance to drop the likeliest tokens (XTC); 0 is off.")
    ] = 0.0
    xtc_threshold: Annotated[
        float, Meta(ge=0, le=1, description="Probability from which XTC may drop a token.")
    ] = 0.1
    dry_multiplier: Annotated[
        float, Meta(ge=0, le=100, description="Strength of the DRY repetition penalty; 0 is off.")
    ] = 0.0
    dry_base: Annotated[
        float, Meta(ge=1, le=100, description="Growth of the DRY penalty with the repeat's length.")
    ] = 1.75
    dry_allowed_length: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="Tokens that may repeat without DRY penalty.")
    ] = 2
    dry_penalty_last_n: Annotated[
        int, Meta(ge=-1, le=2**31 - 1, description="Tokens that DRY looks back; -1: all, 0: off.")
    ] = -1
    repeat_penalty: Annotated[
        float, Meta(gt=0, le=100, description="Divides the logits of recent tokens; 1 is off.")
    ] = 1.0
    repeat_last_n: Annotated[
        int, Meta(ge=-1, le=2**31 - 1, description="Tokens that the penalties look back; -1: all.")
    ] = 64
    presence_penalty: Annotated[
        float, Meta(ge=-2, le=2, description="Subtracted once from tokens that appeared.")
    ] = 0.0
    frequency_penalty: Annotated[
        float, Meta(ge=-2, le=2, description="Subtracted per appearance of a token.")
    ] = 0.0
    mirostat: Annotated[
        int, Meta(ge=0, le=2, description="Mirostat version; replaces top_k, top_p and the like.")
    ] = 0
    mirostat_tau: Annotated[
        float, Meta(ge=0, le=100, description="Mirostat's target surprise.")
    ] = 5.0
    mirostat_eta: Annotated[float, Meta(ge=0, le=1, description="Mirostat's learning rate.")] = 0.1
    logit_bias: Annotated[
        dict[Annotated[int, Meta(ge=0)], Annotated[float, Meta(ge=-100, le=100)]],
        Meta(max_length=1024, description="Added to the logits of these token ids."),
    ] = {}
    seed: (
        Annotated[
            int, Meta(ge=0, le=2**32 - 1, description="Equal seeds give equal text; unset: random.")
        ]
        | None
    ) = None
    stop: Annotated[
        tuple[StopString, ...],
        Meta(
            max_length=MAX_STOPS,
            description="Strings that end the answer; they are not part of it.",
        ),
    ] = ()
    max_tokens: (
        Annotated[
            int,
            Meta(ge=1, le=2**31 - 1, description="Tokens to generate at most; unset: what fits."),
        ]
        | None
    ) = None
    thinking_budget: (
        Annotated[
            int,
            Meta(ge=0, le=2**31 - 1, description="Tokens to think at most; unset: no bound."),
        ]
        | None
    ) = None
    ignore_eos: Annotated[bool, Meta(description="Go on after the model's end-of-text token.")] = (
        False
    )
    logprobs: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_TOP_LOGPROBS, description="Report this many alternatives per token."),
        ]
        | None
    ) = None
    grammar: (
        Annotated[
            str, Meta(max_length=65536, description="GBNF grammar that the answer must follow.")
        ]
        | None
    ) = None

    # By code only: no option and no parameter of a body.
    constraint: Constraint | None = None
    # Of the block of thinking that comes before the answer, so that the budget knows it; without
    # the first, the prompt has opened it.
    thinking_tags: tuple[str, str] | None = None

    @property
    def enforced(self) -> Constraint | None:
        """What the answer must follow: a constraint, or else the grammar of the settings."""
        if self.constraint is not None or self.grammar is None:
            return self.constraint
        return Constraint("gbnf", self.grammar)

    @property
    def ends_at_eos(self) -> bool:
        """Whether an end-of-text token ends the answer. At a grammar's end nothing else is left."""
        return not self.ignore_eos or self.enforced is not None

    @property
    def touched(self) -> bool:
        """Whether anything but `ignore_eos` changes the model's logits before a token is chosen."""
        return bool(
            self.logit_bias
            or self.repeat_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.dry_multiplier
        )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token that may follow is the answer, by the untouched logits."""
        return self.temperature == 0 and not self.touched

    @property
    def plain(self) -> bool:
        """Whether temperature, top_k, top_p and min_p alone choose from the untouched logits."""
        return not (
            self.touched
            or self.temperature == 0
            or self.mirostat
            or self.typical_p < 1
            or self.top_n_sigma > 0
            or self.xtc_probability > 0
        )


def _optional(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    return field.encode_name, field.type | None | UnsetType, UNSET


def overrides(name: str, *left_out: str) -> type[Struct]:
    """Every option of SamplingParams but those, each of which may be absent or null."""
    left_out += ("constraint", "thinking_tags")
    fields = msgspec.structs.fields(SamplingParams)
    taken = [_optional(each) for each in fields if each.name not in left_out]
    return msgspec.defstruct(name, taken, module=__name__, kw_only=True, frozen=True)


SamplingOverrides = overrides("SamplingOverrides")  # what a request overrides


def advised(defaults: SamplingParams, advice: Mapping[str, float]) -> SamplingParams:
    """`defaults`, where values that nobody chose give way to what the model's file advises."""
    untouched = SamplingParams()
    changed = {
        name: value
        for name, value in advice.items()
        if getattr(defaults, name) == getattr(untouched, name)
    }
    return msgspec.structs.replace(defaults, **changed)


def override(defaults: SamplingParams, overrides: Struct, **more: Any) -> SamplingParams:
    """`defaults`, with what `overrides` (a SamplingOverrides or a subclass) and `more` set."""
    given = {
        name: value
        for name in SamplingParams.__struct_fields__
        if (value := getattr(overrides, name, UNSET)) is not UNSET and value is not None
    }
    return msgspec.structs.replace(defaults, **{**given, **more})
