"""How the outputs of the engine become the objects of an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from llmengine import core
from llmengine.chat.prompt import Prompt
from llmengine.core import Output
from llmengine.server import wire
from llmengine.server.framing import Framing


class Format(Protocol):
    @property
    def framing(self) -> Framing: ...

    def opening(self) -> Iterable[Struct]:
        """The chunks that come before any output."""
        ...

    def chunks(self, index: int, output: Output) -> Iterable[Struct]:
        """The chunks for one output of choice `index`."""
        ...

    async def closing(self, of: core.Usage) -> Iterable[Struct]:
        """The chunks that come after all outputs."""
        ...

    def failed(self, error: wire.Error, status: int) -> Iterable[Struct]:
        """The chunks with which a stream ends that cannot go on; `status` would be HTTP's."""
        ...

    async def whole(self, outputs: Sequence[Sequence[Output]], of: core.Usage) -> Struct:
        """The answer in one, from all outputs of each choice."""
        ...


class Head(Struct, frozen=True):
    """What every object of one answer repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    @property
    def fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


def prompt_progress(index: int, of: core.Progress) -> wire.PromptProgress:
    milliseconds = round(of.seconds * 1000)
    return wire.PromptProgress(index, of.position, of.total, of.cached, of.processed, milliseconds)


def finish_reason(output: Output) -> wire.FinishReason | None:
    if output.finish_reason is None:
        return None
    return "length" if output.finish_reason == "length" else "stop"


def merged(outputs: Sequence[Output]) -> Output:
    """All outputs of one request as one."""
    last = outputs[-1]
    return Output(
        last.request_id,
        "".join(each.text for each in outputs),
        tuple(token for each in outputs for token in each.token_ids),
        tuple(token for each in outputs for token in each.logprobs),
        last.finish_reason,
        usage=last.usage,
    )


def total(usages: Sequence[core.Usage], choices: int, of: Sequence[Prompt]) -> core.Usage:
    """The usage of a whole answer from those of its requests, `choices` for each prompt.

    A prompt counts once, and as cached only what was so for all of its choices: they take it
    from each other.
    """
    prompts = [usages[at : at + choices] for at in range(0, len(usages), choices)]
    return core.Usage(
        prompt_tokens=sum(same[0].prompt_tokens for same in prompts),
        completion_tokens=sum(each.completion_tokens for each in usages),
        cached_tokens=sum(min(each.cached_tokens for each in same) for same in prompts),
        dropped_tokens=sum(each.dropped_tokens for each in usages)
        + sum(each.dropped_tokens for each in of),
        dropped_messages=sum(each.dropped_messages for each in of),
        accepted_prediction_tokens=sum(each.accepted_prediction_tokens for each in usages),
        rejected_prediction_tokens=sum(each.rejected_prediction_tokens for each in usages),
    )


def usage(of: core.Usage) -> wire.Usage:
    return wire.Usage(
        prompt_tokens=of.prompt_tokens,
        completion_tokens=of.completion_tokens,
        total_tokens=of.prompt_tokens + of.completion_tokens,
        prompt_tokens_details=wire.PromptTokensDetails(of.cached_tokens),
        **dropped(of),
    )


def dropped(of: core.Usage) -> dict[str, Any]:
    """What was left out of an answer's context, if anything was."""
    found = {"dropped_tokens": of.dropped_tokens, "dropped_messages": of.dropped_messages}
    return {name: count for name, count in found.items() if count}
