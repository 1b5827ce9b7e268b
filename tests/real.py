"""The real engine on the embedded model, for tests."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from llmengine.config import Config
from llmengine.core import Host, Output, Request, TokenLogprob
from llmengine.sampling import SamplingParams

MODEL = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"


def config(model: Path = MODEL, **options: Any) -> Config:
    """A Config with options given by key, like `context_size=4096`."""
    sections: dict[str, dict[str, Any]] = {"model": {"model_path": str(model)}}
    for section in msgspec.structs.fields(Config):
        for key in section.type.__struct_fields__:
            if key in options:
                sections.setdefault(section.name, {})[key] = options[key]
    return msgspec.convert(sections, Config)


@dataclass
class Result:
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    last: Output | None = None

    @property
    def usage(self) -> Any:
        assert self.last is not None
        return self.last.usage

    @property
    def reason(self) -> str | None:
        return self.last.finish_reason if self.last else None


def run(
    host: Host, requests: Iterable[Request], outputs_of: dict[str, list[Output]] | None = None
) -> dict[str, Result]:
    """Submit all at once and wait for all; `outputs_of` gets the outputs of each."""
    requests = list(requests)
    outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    results = {request.id: Result() for request in requests}
    for request in requests:
        host.submit(request, outputs.put)
    left = set(results)
    while left:
        for output in outputs.get(timeout=120):
            result = results[output.request_id]
            if outputs_of is not None:
                outputs_of[output.request_id].append(output)
            result.text += output.text
            result.pieces.append(output.text)
            result.logprobs += output.logprobs
            if output.finish_reason:
                result.last = output
                left.discard(output.request_id)
    return results


def request(host: Host, name: str, text: str, **params: Any) -> Request:
    tokens = tuple(host.tokenize(text, special=True, bos=True))
    return Request(id=name, prompt=tokens, params=SamplingParams(**{"max_tokens": 32, **params}))


def chatml(*turns: str) -> str:
    """User and assistant turns in the embedded model's own format, its answer next."""
    roles = ("user", "assistant")
    past = "".join(
        f"<|im_start|>{roles[index % 2]}\n{turn}<|im_end|>\n" for index, turn in enumerate(turns)
    )
    return past + "<|im_start|>assistant\n"
