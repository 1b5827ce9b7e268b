"""From a chat's body to what the engine is asked: the prompt, the tools and the sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmengine.chat import media, overflow
from llmengine.chat.output import OutputParser
from llmengine.chat.prompt import Prompt
from llmengine.errors import InvalidRequest
from llmengine.sampling import Constraint, SamplingParams
from llmengine.server import constraint, parameters
from llmengine.server.bodies import ChatBody, ContentPart, Message
from llmengine.server.dialect import worded
from llmengine.server.functions import modern
from llmengine.server.media import MediaReader
from llmengine.server.overflow import policy_of
from llmengine.server.state import State
from llmengine.server.tools import ToolPlan, plan_of

# What the engine, which knows no messages, calls otherwise.
NAMES = {r"prompt$": "messages"}

# Variables of a template that follow from other parameters, and arguments on their way to it.
_RESERVED = frozenset(
    {"add_generation_prompt", "bos_token", "eos_token", "host", "messages", "self", "template"}
    | {"continued", "policy", "tools", "wanted"}
)


class Prepared(Struct, frozen=True):
    body: ChatBody
    prompt: Prompt
    params: SamplingParams
    plan: ToolPlan
    special: bool  # whether the answer is read from its control tokens too
    prediction: tuple[int, ...] = ()

    def parser(self, state: State) -> OutputParser:
        return state.template.parser(self.prompt.text, self.plan.tools, most=self.plan.most)


def prepared(state: State, body: ChatBody) -> Prepared:
    """Raises InvalidRequest, which names the parameter, ModelNotFound, ContextLengthExceeded."""
    state.check_model(body.model)
    body = modern(body)
    plan = plan_of(body)
    found = conversation(state, body, plan)
    params = parameters.sampling(
        body,
        state.sampling,
        state.info,
        logprobs=_logprobs(body),
        max_tokens=_wanted(state, body),
        constraint=_constraint(state, body, plan, found.text),
        **_bound(state, body, found.text),
    )
    state.check_tokens(found.tokens, "messages")
    special = state.marks.in_thinking or (bool(plan.given) and state.marks.in_calls)
    return Prepared(body, found, params, plan, special, _prediction(state, body))


def conversation(state: State, body: ChatBody, plan: ToolPlan) -> Prompt:
    """The prompt that the messages of `body` make, or those that fit, with the tools of `plan`."""
    policy = policy_of(state, body)
    with worded(NAMES):
        made = overflow.of_messages(
            state.host,
            state.template,
            for_template(body.messages, state.media),
            policy,
            wanted=_wanted(state, body),
            tools=plan.given,
            add_generation_prompt=body.add_generation_prompt is not False,
            continued=_continues(body),
            **_variables(state, body),
        )
    if body.n_keep is None:
        return made
    return overflow.of_tokens(state.host, made, policy, wanted=None, keep=body.n_keep)


def _wanted(state: State, body: ChatBody) -> int | None:
    """Tokens that the answer may have."""
    return body.max_completion_tokens or body.max_tokens or state.sampling.max_tokens


def _continues(body: ChatBody) -> bool:
    """Whether the answer goes on with the last message."""
    if not body.continue_final_message:
        return False
    last, reason = body.messages[-1], ""
    if body.add_generation_prompt:
        reason = "and `add_generation_prompt` exclude each other"
    elif last.role != "assistant" or not last.content or last.tool_calls:
        reason = "needs a last message of the assistant's, with content and without calls"
    if reason:
        raise InvalidRequest(f"`continue_final_message` {reason}", param="continue_final_message")
    return True


def for_template(messages: Sequence[Message], reader: MediaReader) -> list[Mapping[str, Any]]:
    """The messages as a template takes them, with what their media are."""
    return [_message(at, each, reader) for at, each in enumerate(messages)]


def _message(at: int, message: Message, reader: MediaReader) -> Mapping[str, Any]:
    where, message = f"messages[{at}]", _told(message)
    if message.content is None and message.role != "assistant":
        raise InvalidRequest(f"`{where}.content` is missing", param=f"{where}.content")
    found: dict[str, Any] = msgspec.to_builtins(message)
    if isinstance(message.content, list):
        found["content"] = [
            media.part(read) if (read := reader.read(each, f"{where}.content[{index}]")) else text
            for index, (each, text) in enumerate(
                zip(message.content, found["content"], strict=True)
            )
        ]
    return found


def _told(message: Message) -> Message:
    """What the assistant refused with is text that it said."""
    content = message.refusal if message.content is None else message.content
    if isinstance(content, list):
        content = [
            ContentPart("text", each.refusal) if each.type == "refusal" else each
            for each in content
        ]
    return replace(message, content=content, refusal=None)


def _variables(state: State, body: ChatBody) -> dict[str, Any]:
    variables = dict(body.chat_template_kwargs or {})
    reserved = sorted(_RESERVED & variables.keys())
    if reserved:
        raise InvalidRequest(
            f"`chat_template_kwargs`: {reserved[0]!r} is not for clients to set",
            param="chat_template_kwargs",
        )
    effort = body.effort
    if effort is None:
        return variables
    return {**state.template.thinking(enable=effort != "none", effort=effort), **variables}


def _bound(state: State, body: ChatBody, prompt: str) -> dict[str, Any]:
    """How much the model may think, and between which tags."""
    asked = body.reasoning.max_tokens if body.reasoning else None
    given = body.thinking_budget
    if None not in (asked, given) and asked != given:
        raise InvalidRequest(
            "`reasoning.max_tokens` and `thinking_budget` differ", param="thinking_budget"
        )
    found = [each for each in (asked, given, state.sampling.thinking_budget) if each is not None]
    tags = state.template.thought_tags(prompt)
    return {"thinking_budget": found[0], "thinking_tags": tags} if found and tags else {}


def _prediction(state: State, body: ChatBody) -> tuple[int, ...]:
    """The tokens of what the client expects."""
    if body.prediction is None:
        return ()
    content = body.prediction.content
    text = content if isinstance(content, str) else ""
    for at, part in enumerate(content if isinstance(content, list) else ()):
        if part.text is None:
            param = f"prediction.content[{at}]"
            raise InvalidRequest(f"`{param}`: a prediction is text", param=param)
        text += part.text
    return tuple(state.host.tokenize(text))


def _logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("`top_logprobs` needs `logprobs`: true", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _constraint(state: State, body: ChatBody, plan: ToolPlan, prompt: str) -> Constraint | None:
    """What the answer must follow: a forced call, or what the body says of its form."""
    thinking = _before(state, body, prompt)
    form = constraint.of(body, thinking)
    call = plan.constraint(state, thinking)
    if call and form:
        raise InvalidRequest(
            f"`{form.param}` and a `tool_choice` that forces a call exclude each other",
            param=form.param,
        )
    if form and plan.given:
        return plan.or_answer(state, form)
    return call or form or plan.held(state, thinking)


def _before(state: State, body: ChatBody, prompt: str) -> tuple[str, str] | None:
    """The tags of the thinking that may come first; none if it was turned off, or never asked for.

    Left free, a model that is kept from all it would say likes to think.
    """
    tags = state.template.tags_before(prompt)
    if tags is None or not tags[0]:  # the prompt has opened it
        return tags
    variables, off = _variables(state, body), state.template.thinking(enable=False)
    switched = any(variables.get(name) == value for name, value in off.items())
    unasked = state.template.opens_when_asked
    return None if unasked or switched or (not off and body.effort == "none") else tags
