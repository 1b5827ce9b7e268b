"""Every chat template of published models: rendered, and what its model writes read back."""

from __future__ import annotations

import functools
import json
import tarfile
from typing import Any

import pytest
from answers import GIVEN, TOOLS, calls, parsed, plain
from conftest import ROOT
from grammars import accepts

from llmengine.chat.lark import Lark
from llmengine.chat.template import ChatTemplate
from llmengine.sampling import Constraint

ARCHIVE = ROOT / "tests" / "data" / "chat_templates.tar.xz"
with tarfile.open(ARCHIVE) as archive:
    SOURCES = {
        each.name.removesuffix(".jinja"): archive.extractfile(each).read().decode()  # type: ignore[union-attr]
        for each in archive
    }

# The format of each model, and the tag that opens its thinking.
FORMATS = {
    "Apertus-8B-Instruct": ("apertus", "<|inner_prefix|>"),
    "Apriel-1.6-15b-Thinker-fixed": ("apriel", "Here are my reasoning steps:"),
    "Bielik-11B-v3.0-Instruct": ("hermes", "<think>"),
    "ByteDance-Seed-OSS": ("seed-oss", "<seed:think>"),
    "Cohere2MoE": ("cohere2", "<|START_THINKING|>"),
    "CohereForAI-c4ai-command-r-plus-tool_use": ("command-r", "<think>"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-r7b", "<|START_THINKING|>"),
    "GLM-4.6": ("glm", "<think>"),
    "GLM-4.7-Flash": ("glm", "<think>"),
    "GigaChat3-10B-A1.8B": ("gigachat-v3", "<think>"),
    "GigaChat3.1-10B-A1.8B": ("gigachat", "<think>"),
    "HuggingFaceTB-SmolLM3-3B": ("generic", "<think>"),
    "Kimi-K2-Instruct": ("kimi-k2", "<think>"),
    "Kimi-K2-Thinking": ("kimi-k2", "<think>"),
    "Kimi-K3": ("kimi-k3", "<|open|>think<|sep|>"),
    "LFM2-8B-A1B": ("lfm2", "<think>"),
    "LFM2.5-8B-A1B": ("lfm2", "<think>"),
    "LFM2.5-Instruct": ("lfm2", "<think>"),
    "MiMo-VL": ("hermes", "<think>"),
    "MiniMax-M1": ("minimax-m1", "<think>"),
    "MiniMax-M2": ("minimax-m2", "<think>"),
    "MiniMax-M3": ("hermes", "<mm:think>"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral", "<think>"),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("qwen3-coder", "<think>"),
    "NVIDIA-Nemotron-Nano-v2": ("nemotron", "<think>"),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": ("hermes", "<think>"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("hermes", "<think>"),
    "Qwen-QwQ-32B": ("hermes", "<think>"),
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", "<think>"),
    "Qwen-Qwen3-0.6B": ("hermes", "<think>"),
    "Qwen3-Coder": ("qwen3-coder", "<think>"),
    "Qwen3.5-4B": ("qwen3-coder", "<think>"),
    "Reka-Edge": ("hermes", "<think>"),
    "Spark2.5": ("glm", "<think>"),
    "StepFun3.5-Flash": ("qwen3-coder", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek-r1", "<think>"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3.1", "<think>"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-dsml", "<think>"),
    "deepseek-ai-DeepSeek-V4": ("deepseek-dsml", "<think>"),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("deepseek-dsml", "<think>"),
    "fireworks-ai-llama-3-firefunction-v2": ("firefunction", "<think>"),
    "google-gemma-2-2b-it": ("generic", "<think>"),
    "google-gemma-4-31B-it": ("gemma4", "<|channel>thought"),
    "google-gemma-4-31B-it-interleaved": ("gemma4", "<|channel>thought"),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite-3", "<think>"),
    "ibm-granite-granite-4.0": ("hermes", "<think>"),
    "ibm-granite-granite-4.1": ("hermes", "<think>"),
    "inclusionai-ling-3.0-flash": ("glm", "<think>"),
    "llama-cpp-deepseek-r1": ("deepseek-r1", "<think>"),
    "llama-cpp-rwkv-world": ("generic", "<think>"),
    "meetkai-functionary-medium-v3.1": ("functionary-v3.1", "<think>"),
    "meetkai-functionary-medium-v3.2": ("functionary-v3.2", "<think>"),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama3", "<think>"),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama3", "<think>"),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama3", "<think>"),
    "microsoft-Phi-3.5-mini-instruct": ("generic", "<think>"),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral", "[THINK]"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral-json", "<think>"),
    "moonshotai-Kimi-K2": ("kimi-k2", "<think>"),
    "muse-glimmer": ("muse", "<think>"),
    "openai-gpt-oss-120b": ("harmony", "<think>"),
    "openbmb-MiniCPM5-1B": ("minicpm", "<think>"),
    "poolside-Laguna-S-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS-2.1": ("glm", "<think>"),
    "poolside-Laguna-XS.2": ("glm", "<think>"),
    "tencent-Hy3": ("hunyuan", "<think:opensource>"),
    "unsloth-Apriel-1.5": ("apriel", "<think>"),
    "unsloth-mistral-Devstral-Small-2507": ("mistral", "<think>"),
    "upstage-Solar-Open-100B": ("solar", "<|think|>"),
}
# What ends a turn: the engine keeps such tokens to itself.
ENDS = (
    "\n\n",
    "<SPECIAL_12>",
    "<|eom_id|>",
    "<|tool_response>",
    "<｜hy_eos:opensource｜>",  # noqa: RUF001
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
)
# These write an object's schema down only with `additionalProperties` in it.
FLAT_ONLY = {"CohereForAI-c4ai-command-r-plus-tool_use"}
# This one puts the content of earlier turns behind a tag that it never closes.
UNCLOSED = {"NVIDIA-Nemotron-Nano-v2"}
# Its calls, nested tags, come as content so far.
UNREAD = {"MiniMax-M3"}
# Strings in single quotes, objects without, indented ones, a member behind the arguments: beside a
# strict function their models write the same as JSON, which the formats know too.
OTHERWISE = {
    "LFM2.5-8B-A1B",
    "google-gemma-4-31B-it",
    "google-gemma-4-31B-it-interleaved",
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "mistralai-Mistral-Nemo-Instruct-2407",
}
# These write one call in a message: several become messages of their own.
SINGLE = {
    "GigaChat3-10B-A1.8B",
    "GigaChat3.1-10B-A1.8B",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "openai-gpt-oss-120b",
}

ASK = [{"role": "user", "content": "QUESTION?"}]
CITY = 'Par"is\né <b> 🌦'
DEEP = {"city": CITY, "days": 3, "options": {"deep": [1, "x", {"y": True}]}}
FLAT = {"city": CITY, "days": 3}
each_template = pytest.mark.parametrize("name", SOURCES)


@functools.cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate(SOURCES[name], "<s>", "</s>")


def given(name: str) -> list[dict[str, Any]]:
    if name not in FLAT_ONLY:
        return GIVEN
    found = json.loads(json.dumps(GIVEN))
    del found[0]["function"]["parameters"]["properties"]["options"]
    return found


def call(index: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call0000{index}", "type": "function", "function": function}


def shared(*texts: str) -> str:
    """The longest beginning that all texts have."""
    first = min(texts, key=len)
    differing = (at for at in range(len(first)) if len({each[at] for each in texts}) > 1)
    return first[: next(differing, len(first))]


def written(name: str, answer: dict[str, Any]) -> tuple[str, str]:
    """A prompt, and what the template says that the model has answered to it."""
    chat = template(name)

    def render(messages: list[dict[str, Any]], begun: bool = False) -> str:
        return chat.render(
            messages, tools=given(name), add_generation_prompt=begun, enable_thinking=True
        )

    turn = render([*ASK, {"role": "assistant", **answer}])
    prompt = render(ASK, begun=True)
    base = shared(render(ASK), prompt, turn)
    start = base + shared(prompt[len(base) :], turn[len(base) :])
    if ">" not in start[start.rfind("<") :]:
        start = start[: start.rfind("<")]  # both go on with a tag, but not with the same one
    plain = render([*ASK, {"role": "assistant", "content": "ZZZZ"}])
    text = turn[len(start) :].removesuffix(plain[plain.rindex("ZZZZ") + 4 :])
    text = text.removeprefix("<|CHATBOT_TOKEN|>").partition("<|START_OF_TURN_TOKEN|><|SYSTEM")[0]
    for end in ENDS:
        text = text.removesuffix(end)
    tags = chat.tags
    begun = tags.opened_by(prompt) and not text.startswith(tags.open) and tags.close in text
    return (prompt if begun else start), text


def test_the_archive_is_what_the_table_says() -> None:
    assert sorted(SOURCES) == sorted(FORMATS)


@each_template
def test_the_format_is_recognised(name: str) -> None:
    found = template(name)
    assert (found.format.name, found.tags.open) == FORMATS[name]


@each_template
def test_every_conversation_can_be_rendered(name: str) -> None:
    """The tools and what they answered are told, whatever the template knows of them."""
    chat = template(name)
    called = {"role": "assistant", "content": None, "tool_calls": [call(1, "get_weather", FLAT)]}
    result = {"role": "tool", "tool_call_id": "call00001", "content": '"RESULT"'}
    for thinking in (True, False):
        variables = chat.thinking(enable=thinking)
        assert "QUESTION?" in chat.render(ASK, **variables)
        text = chat.render([*ASK, called, result], tools=given(name), **variables)
        assert text.index("QUESTION?") < text.rindex("get_weather") < text.rindex("RESULT")
        assert "get_time" in chat.render(ASK, tools=given(name), **variables)


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - UNREAD))
def test_a_call_is_read_back(name: str) -> None:
    arguments = FLAT if name in FLAT_ONLY else DEEP
    answer = {"content": None, "tool_calls": [call(1, "get_weather", arguments)]}
    prompt, text = written(name, answer)
    parser = template(name).parser
    found = parsed(parser(prompt, TOOLS), [text])
    assert (found.content, calls(found)) == ("", [("get_weather", arguments)])
    assert plain(parsed(parser(prompt, TOOLS), list(text))) == plain(found)


@each_template
def test_the_history_may_have_several_calls_at_once(name: str) -> None:
    messages = [
        *ASK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call(1, "get_weather", FLAT), call(2, "get_time", {"zone": "CET"})],
        },
        {"role": "tool", "tool_call_id": "call00001", "content": '"RESULT 1"'},
        {"role": "tool", "tool_call_id": "call00002", "content": '"RESULT 2"'},
    ]
    text = template(name).render(messages)
    assert text.index("get_weather") < text.index("RESULT 1") < text.index("RESULT 2")
    assert text.index("get_weather") < text.index("get_time") < text.index("RESULT 2")


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - SINGLE - UNREAD))
def test_two_calls_are_read_back(name: str) -> None:
    answer = {
        "content": None,
        "tool_calls": [call(1, "get_weather", FLAT), call(2, "get_time", {"zone": "CET"})],
    }
    prompt, text = written(name, answer)
    found = parsed(template(name).parser(prompt, TOOLS), list(text))
    assert (found.content, calls(found)) == (
        "",
        [("get_weather", FLAT), ("get_time", {"zone": "CET"})],
    )


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - UNREAD - OTHERWISE))
def test_what_models_write_is_allowed_beside_strict_functions(name: str) -> None:
    chat, lark = template(name), Lark(lambda text: ())
    held = Constraint("lark", lark.source(chat.format.answer(lark, TOOLS, chat.tags)))
    one = call(1, "get_weather", {"city": "Paris", "days": 3})
    two = call(2, "get_time", {"zone": "CET"})
    for tool_calls in ([], [one], [one] if name in SINGLE else [one, two]):
        for content in ("Well.", None) if tool_calls else ("Well.",):
            answer = {"content": content, "tool_calls": tool_calls}
            assert accepts(held, written(name, answer if tool_calls else {"content": content})[1])


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - UNCLOSED))
def test_thinking_and_content_are_told_apart(name: str) -> None:
    answer = {"content": "An answer.", "reasoning_content": "A thought."}
    prompt, text = written(name, answer)
    parser = template(name).parser
    found = plain(parsed(parser(prompt, TOOLS), [text]))
    thought = "A thought." if "A thought." in text else ""
    assert found == ("An answer.", thought, [])
    assert plain(parsed(parser(prompt, TOOLS), list(text))) == found
