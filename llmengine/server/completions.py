"""POST /v1/completions"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace
from sanic import Blueprint, HTTPResponse, Request

from llmengine.chat import prompt
from llmengine.chat.prompt import Prompt
from llmengine.errors import InvalidRequest
from llmengine.sampling import SamplingParams
from llmengine.server import constraint, parameters
from llmengine.server.bodies import MAX_CHOICES, CompletionBody, decode, texts
from llmengine.server.completion_format import CompletionFormat
from llmengine.server.generation import answer, head
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
    tokens = [each.tokens for each in prepared.prompts]
    params = prepared.params
    if body.choices > body.told:  # they are ranked by their log-probabilities
        params = replace(params, logprobs=params.logprobs or 0)
    return await answer(request, body, first, tokens, params, format)


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
    prompts = [_prompt(state, each, body.suffix) for each in given]
    params = parameters.sampling(body, state.sampling, state.info, constraint=constraint.of(body))
    return _Prepared(body, prompts, params, unknown)


def _check_offered(state: State, body: CompletionBody) -> None:
    if body.choices < body.told:
        raise InvalidRequest("`best_of` is less than `n`", param="best_of")
    if body.choices > body.told and body.stream:
        raise InvalidRequest("`best_of` above `n` cannot be streamed", param="best_of")
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


def _prompt(state: State, given: str | list[int], suffix: str | None) -> Prompt:
    if suffix:
        text = given if isinstance(given, str) else _text(state, given)
        return prompt.of_gap(state.host, text, suffix)
    if isinstance(given, str):
        found = prompt.of_text(state.host, given)
        state.check_tokens(found.tokens, "prompt")
        return Prompt(given, found.tokens)
    return Prompt(_text(state, given), tuple(given))


def _text(state: State, tokens: list[int]) -> str:
    state.check_known(tokens, "prompt")
    return state.host.detokenize(tokens)
