"""The shipped model and the recipe that made it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

MODELS = Path(__file__).parents[1] / "models"
GGUF = MODELS / "tiny-chat.gguf"
RECIPE = MODELS / "tiny-chat"
MODULES = ("conversation", "evaluate", "fillers", "generate", "phrasing", "skills", "wordlists")


@pytest.fixture(scope="module")
def recipe():
    """The recipe's modules are scripts in one folder, so the folder goes on the path."""
    sys.path.insert(0, str(RECIPE))
    import conversation
    import evaluate
    import generate

    yield {"conversation": conversation, "evaluate": evaluate, "generate": generate}
    sys.path.remove(str(RECIPE))
    for name in [n for n in sys.modules if n.split(".")[0] in MODULES]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def template():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return env.from_string((RECIPE / "template.jinja").read_text(encoding="utf-8"))


def test_size() -> None:
    assert GGUF.stat().st_size <= 8 * 1024 * 1024


def test_metadata() -> None:
    from llama_cpp import Llama

    model = Llama(str(GGUF), vocab_only=True, verbose=False)
    metadata = model.metadata
    assert metadata["general.architecture"] == "qwen3"
    assert metadata["qwen3.context_length"] == "4096"
    assert int(metadata["qwen3.attention.key_length"]) % 32 == 0
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    assert metadata["tokenizer.ggml.add_bos_token"] == "false"
    assert metadata["tokenizer.chat_template"] == (RECIPE / "template.jinja").read_text("utf-8")
    end = model.tokenize(b"<|im_end|>", add_bos=False, special=True)
    assert end == [model.token_eos()]


def test_any_text_survives_the_tokenizer() -> None:
    from llama_cpp import Llama

    model = Llama(str(GGUF), vocab_only=True, verbose=False)
    for text in ("Grüße, мир, 世界 🦙!", "\x00\x01 tab\tnewline\n\n", "def f(x):\n    return x"):
        tokens = model.tokenize(text.encode(), add_bos=False, special=False)
        assert model.detokenize(tokens).decode() == text


def test_generator_is_deterministic(recipe) -> None:
    render = recipe["conversation"].Renderer().full
    first, again, other = (
        [render(c) for c in recipe["generate"].training(seed, 200)] for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_held_out_fillers_are_disjoint() -> None:
    sys.path.insert(0, str(RECIPE))
    from random import Random

    from fillers import Fillers

    for kind in ("name", "city", "word", "made_up", "code", "number", "key", "value"):
        drawn = []
        for held_out in (False, True):
            rng, fillers = Random(3), Fillers(held_out)
            drawn.append({getattr(fillers, kind)(rng) for _ in range(3000)})
        assert len(drawn[0]) > 50
        assert not drawn[0] & drawn[1], kind
    pairs = [{Fillers(h).pair(Random(i), "+") for i in range(3000)} for h in (False, True)]
    assert not pairs[0] & pairs[1]
    sys.path.remove(str(RECIPE))


def test_held_out_set_has_300_prompts_unseen_in_training(recipe) -> None:
    cases = recipe["generate"].held_out()
    assert len(cases) == 300
    prompt = recipe["conversation"].Renderer().prompt
    seen = {prompt(c) for c in recipe["generate"].training(1000, 2000)}
    assert not seen & {prompt(c) for _, c in cases}


def test_next_turn_extends_prompt_and_answer(template) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    prompt = template.render(messages=messages, add_generation_prompt=True)
    messages += [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye"}]
    longer = template.render(messages=messages, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert longer.startswith(prompt + "Hello!<|im_end|>\n")


def test_template_tools_and_calls(template) -> None:
    function = {"name": "f", "description": "Do f", "parameters": {"type": "object"}}
    calls = [
        {"id": str(i), "type": "function", "function": {"name": "f", "arguments": arguments}}
        for i, arguments in enumerate(('{"x": 1}', {"x": 1}))
    ]
    text = template.render(
        messages=[
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "do "}, {"type": "text", "text": "f"}],
            },
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "done"},
        ],
        tools=[{"type": "function", "function": function}],
        add_generation_prompt=True,
        enable_thinking=True,
    )
    call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n{")
    assert f"<|im_start|>user\ndo f<|im_end|>\n<|im_start|>assistant\n{call}\n" in text
    assert f"{call}\n{call}<|im_end|>\n" in text
    assert "<|im_start|>user\n<tool_response>\ndone\n</tool_response><|im_end|>\n" in text
    assert text.endswith("<|im_start|>assistant\n<think>\n")


def test_template_strips_old_thoughts(template) -> None:
    text = template.render(
        messages=[
            {"role": "user", "content": "1 + 1"},
            {"role": "assistant", "content": "<think>\nOne and one.\n</think>\n\n1 + 1 = 2."},
        ]
    )
    assert text.endswith("<|im_start|>assistant\n1 + 1 = 2.<|im_end|>\n")


@pytest.mark.model
def test_sample_of_the_held_out_set(recipe) -> None:
    cases = recipe["generate"].held_out()[::10]
    figures = recipe["evaluate"].score(recipe["evaluate"].engine_completer(GGUF), cases)
    right = sum(hits for hits, _ in figures.values())
    assert len(cases) == 30
    assert right >= 0.85 * len(cases), figures
