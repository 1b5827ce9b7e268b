"""The grammar of JSON objects, as llama.cpp reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import eventually

from llmengine.config import Config, ModelConfig
from llmengine.core import Host, Output, Request
from llmengine.grammar.json import json_object
from llmengine.sampling import SamplingParams


def test_the_root_is_an_object_or_the_end_of_thinking() -> None:
    assert json_object().startswith("root ::= object\n")
    assert json_object(thinking=True).startswith("root ::= thinking object\n")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    from llmengine.engine.engine import Engine

    path = Path(__file__).parent.parent / "models/tiny-chat.gguf"
    with Engine(Config(model=ModelConfig(model_path=str(path)))) as engine:
        yield engine


def complete(host: Host, prompt: str, grammar: str, **params: object) -> Output:
    outputs: list[Output] = []
    tokens = tuple(host.tokenize(prompt, special=True, bos=True))
    sampling = SamplingParams(grammar=grammar, **params)  # type: ignore[arg-type]
    host.submit(Request(id=prompt, prompt=tokens, params=sampling), outputs.extend)
    assert eventually(lambda: outputs and outputs[-1].finish_reason, 60)
    text = "".join(output.text for output in outputs)
    return Output(prompt, text, finish_reason=outputs[-1].finish_reason)


@pytest.mark.model
def test_hot_samples_are_objects(host: Host) -> None:
    ended = 0
    for seed in range(8):
        # Strings of a hot model hardly end; the bias helps it to its closing quotes and braces.
        closing = {host.tokenize(each)[0]: 6.0 for each in ('"', "}", "]")}
        output = complete(
            host, "{", json_object(), temperature=2.0, seed=seed, max_tokens=400, logit_bias=closing
        )
        if output.finish_reason == "stop":
            assert isinstance(json.loads(output.text), dict)
            ended += 1
        else:
            assert output.text.startswith("{")
    assert ended >= 4


@pytest.mark.model
def test_an_object_comes_after_the_thinking(host: Host) -> None:
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    output = complete(host, prompt, json_object(thinking=True), temperature=0, max_tokens=300)
    thought, tag, rest = output.text.partition("</think>")
    assert "</" not in thought
    assert output.finish_reason == "length" or tag
    if output.finish_reason == "stop":
        assert isinstance(json.loads(rest), dict)
