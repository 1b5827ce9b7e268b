"""Prompts that outgrow the context: what of them stays, and what stays while an answer grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from llmengine.chat import prompt
from llmengine.chat.messages import Message
from llmengine.chat.prompt import Prompt
from llmengine.chat.template import ChatTemplate
from llmengine.config import Overflow
from llmengine.core import Host
from llmengine.errors import ContextLengthExceeded, InvalidRequest

INSTRUCTIONS = ("system", "developer")


def of_messages(
    host: Host,
    template: ChatTemplate,
    messages: Sequence[Message],
    policy: Overflow,
    *,
    wanted: int | None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> Prompt:
    """As `prompt.of_messages`, by `policy`; an answer of `wanted` tokens is to follow."""

    def render(messages: Sequence[Message]) -> Prompt:
        return prompt.of_messages(host, template, messages, tools=tools, **variables)

    if policy == "truncate_left":
        return fitted(render, messages, _most(host, wanted))
    made = render(messages)
    if policy == "error":
        return made
    head = list(takewhile(lambda each: each["role"] in INSTRUCTIONS, messages))
    if not head and not tools:
        return replace(made, keep=_beginning(host, made))
    common = prompt.of_beginning(host, template, head, tools=tools).tokens
    return replace(made, keep=prompt.common_length(common, made.tokens))


def of_text(
    host: Host, text: str, policy: Overflow, *, wanted: int | None, keep: int = 0
) -> Prompt:
    """As `prompt.of_text`, by `policy`; the first `keep` tokens stay."""
    made = prompt.of_text(host, text, fits=policy != "truncate_left")
    return of_tokens(host, made, policy, wanted=wanted, keep=keep)


def of_tokens(
    host: Host, made: Prompt, policy: Overflow, *, wanted: int | None, keep: int = 0
) -> Prompt:
    """The prompt of a text, or what of it fits by `policy`. With a `keep` of -1 all stays."""
    if policy == "error":
        return made
    length = len(made.tokens)
    keep = max(_beginning(host, made), length if keep < 0 else min(keep, length))
    if policy == "shift":
        return replace(made, keep=keep)
    return _cut(made, _most(host, wanted), keep)


def _most(host: Host, wanted: int | None) -> int:
    """Tokens that a prompt may have: a quarter of the context is left to an answer at most."""
    limit = host.info().max_sequence_length
    share = limit // 4
    return limit - min(wanted or share, share)


def _beginning(host: Host, made: Prompt) -> int:
    """How many tokens a prompt begins with that the model wants there."""
    return int(made.tokens[:1] == tuple(host.tokenize("", bos=True)[:1]))


def _cut(made: Prompt, most: int, keep: int) -> Prompt:
    dropped = len(made.tokens) - most
    if dropped <= 0:
        return made
    if made.media:
        raise InvalidRequest(
            "`n_keep`: of a prompt with images or sound only whole turns can be left out",
            param="n_keep",
        )
    if keep >= most:
        raise InvalidRequest(
            f"`n_keep`: {keep} tokens would stay, and the prompt may have {most} beside an answer",
            param="n_keep",
        )
    tokens = made.tokens[:keep] + made.tokens[keep + dropped :]
    return replace(made, tokens=tokens, dropped_tokens=dropped)


def fitted(
    render: Callable[[Sequence[Message]], Prompt], messages: Sequence[Message], most: int
) -> Prompt:
    """The prompt of `most` tokens at most that leaves out the fewest of `messages`.

    Whole turns go, the oldest first, and of the last one the oldest calls with their results. The
    instructions at the head and the last question stay. Raises ContextLengthExceeded where they
    alone are too long, and what `render` does.
    """
    rests = _rests(messages)
    low, high, best = 0, len(rests) - 1, None
    at = 0  # most conversations fit as they are
    while low <= high:
        try:
            made = render(rests[at])
        except ContextLengthExceeded:  # so long that its tokens were not even counted
            low = at + 1
        else:
            if len(made.tokens) <= most:
                dropped = len(messages) - len(rests[at])
                best, high = replace(made, dropped_messages=dropped), at - 1
            else:
                low = at + 1
        at = (low + high) // 2
    if best is None:
        raise ContextLengthExceeded(
            f"the prompt may have {most} tokens beside an answer, and the system message and the "
            "last turn alone have more: shorten them",
            param="messages",
        )
    return best


def _rests(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """What may be left of a conversation, from all of it to the least."""
    head = len(list(takewhile(lambda each: each["role"] in INSTRUCTIONS, messages)))
    system, said = messages[:head], messages[head:]
    turns = [at for at in range(1, len(said)) if _asks(said[at]) and not _asks(said[at - 1])]
    last = said[turns[-1] if turns else 0 :]
    question = list(takewhile(_asks, last))
    rounds = [at for at, each in enumerate(last) if each["role"] == "assistant"]
    return [
        messages,
        *([*system, *said[at:]] for at in turns),
        *([*system, *question, *last[at:]] for at in rounds[1:] if question),
    ]


def _asks(message: Message) -> bool:
    return bool(message["role"] == "user")
