"""POST /v1/completions"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace
from sanic import Blueprint, HTTPResponse, Request

from llmengine.chat import overflow, prompt
from llmengine.chat.prompt import Prompt
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams
from llmengine.server import constraint, parameters
from llmengine.server.bodies import MAX_CHOICES, CompletionBody, decode, texts
from llmengine.server.completion_format import CompletionFormat
from llmengine.server.generation import answer, head
from llmengine.server.overflow import policy_of
from llmengine.server.record import record_of
from llmengine.server.state import State, state_of

blueprint = Blueprint("completions")


class _Prepared(Struct, frozen=True):
    body: CompletionBody
    prompts: list[Prompt]
    params: SamplingParams
    unknown: list[str]


@blueprint.post("/v1/completions")
async def completions(request: Request) -> HTTPResponse | None:
    state = state_of(request)
    prepared = await state.in_worker(_prepare, state, request.body)
    record_of(request).unknown = prepared.unknown
    body = prepared.body
    first = head(state, "cmpl-")
    echoes = [each.text if body.echo else "" for each in prepared.prompts for _ in range(body.told)]
    format = CompletionFormat(
        first,
        echoes,
        prompts=len(prepared.prompts),
        logprobs=prepared.params.logprobs,
        usage=body.include_usage,
    )
    params = prepared.params
    if body.choices > body.told:  # they are ranked by their log-probabilities
        params = replace(params, logprobs=params.logprobs or 0)
    return await answer(request, body, first, prepared.prompts, params, format)


def _prepare(state: State, content: bytes) -> _Prepared:
    body, fields = decode(content, CompletionBody)
    strict = state.config.server.strict_parameters
    unknown = parameters.unknown(body, fields, strict=strict)
    state.check_model(body.model)
    _check_offered(state, body)
    given = texts(body.prompt, "prompt")
    if len(given) * body.choices > MAX_CHOICES:
        raise InvalidRequest(
            f"{len(given)} prompts with {body.choices} answers each are more than {MAX_CHOICES}",
            param="n" if body.choices > 1 else "prompt",
        )
    prompts = [_prompt(state, each, body) for each in given]
    params = parameters.sampling(body, state.sampling, state.info, constraint=constraint.of(body))
    return _Prepared(body, prompts, params, unknown)


def _check_offered(state: State, body: CompletionBody) -> None:
    if body.choices < body.told:
        raise InvalidRequest("`best_of` is less than `n`", param="best_of")
    if body.choices > body.told and body.stream:
        raise InvalidRequest("`best_of` above `n` cannot be streamed", param="best_of")
    if body.suffix and body.overflow not in (None, "error"):
        raise InvalidRequest(
            "`overflow` with `suffix`: nothing is dropped around a gap",
            param="overflow",
            code="unsupported_parameter",
        )
    if body.thinking_budget is not None:
        raise InvalidRequest(
            "`thinking_budget` is for /v1/chat/completions: a text has no tags of thinking",
            param="thinking_budget",
            code="unsupported_parameter",
        )
    if body.echo and body.logprobs is not None:
        raise InvalidRequest(
            "`echo` with `logprobs`: the log-probabilities of a prompt are not offered",
            param="echo",
            code="unsupported_parameter",
        )


def _prompt(state: State, given: str | list[int], body: CompletionBody) -> Prompt:
    if body.suffix:
        text = given if isinstance(given, str) else _text(state, given)
        return prompt.of_gap(state.host, text, body.suffix)
    policy, keep = policy_of(state, body), body.n_keep or 0
    wanted = body.max_tokens or state.sampling.max_tokens
    if isinstance(given, str):
        found = overflow.of_text(state.host, given, policy, wanted=wanted, keep=keep)
        state.check_tokens(found.tokens, "prompt")
        return found
    found = Prompt(_text(state, given), tuple(given))
    return overflow.of_tokens(state.host, found, policy, wanted=wanted, keep=keep)


def _text(state: State, tokens: list[int]) -> str:
    state.check_known(tokens, "prompt")
    return state.host.detokenize(tokens)
