"""Chat, streams, tools, schemas and errors, as each client offers them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

MODEL = "tiny-chat"
SAY = "Say the word: mango"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORCED = {"type": "function", "function": {"name": "get_weather"}}


class Fruit(BaseModel):
    name: str = Field(max_length=20)  # a small model might not end it by itself
    ripe: bool


class TestLangChain:
    @pytest.fixture
    def model(self, base_url: str, key: str) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=MODEL, base_url=base_url, api_key=key, temperature=0, max_retries=0)

    def test_chat_and_stream(self, model: Any) -> None:
        answer = model.invoke(SAY)
        assert answer.content
        assert answer.usage_metadata["output_tokens"] > 0
        assert "".join(chunk.content for chunk in model.stream(SAY)) == answer.content

    def test_a_tool(self, model: Any) -> None:
        answer = model.bind_tools([WEATHER], tool_choice="get_weather").invoke("Weather in Rome?")
        (call,) = answer.tool_calls
        assert call["name"] == "get_weather"
        assert isinstance(call["args"]["city"], str)

    def test_a_schema(self, model: Any) -> None:
        found = model.with_structured_output(Fruit, method="json_schema").invoke("A ripe mango.")
        assert isinstance(found, Fruit)

    def test_an_error(self, model: Any) -> None:
        import openai

        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            model.invoke("word " * 50_000)


class TestLiteLLM:
    @pytest.fixture
    def ask(self, base_url: str, key: str) -> Any:
        import litellm

        def ask(text: str, **options: Any) -> Any:
            return litellm.completion(
                model=f"openai/{MODEL}",
                api_base=base_url,
                api_key=key,
                messages=[{"role": "user", "content": text}],
                temperature=0,
                num_retries=0,
                **options,
            )

        return ask

    def test_chat_and_stream(self, ask: Any) -> None:
        answer = ask(SAY).choices[0].message.content
        assert answer
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(SAY, stream=True)]
        assert "".join(pieces) == answer

    def test_a_tool(self, ask: Any) -> None:
        answer = ask("Weather in Rome?", tools=[WEATHER], tool_choice=FORCED)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        assert list(json.loads(call.function.arguments)) == ["city"]

    def test_a_schema(self, ask: Any) -> None:
        answer = ask("A ripe mango.", response_format=Fruit)
        Fruit.model_validate_json(answer.choices[0].message.content)

    def test_an_error(self, ask: Any) -> None:
        import litellm

        with pytest.raises(litellm.ContextWindowExceededError):
            ask("word " * 50_000)


class TestLlamaIndex:
    @pytest.fixture
    def model(self, base_url: str, key: str) -> Any:
        from llama_index.llms.openai_like import OpenAILike

        return OpenAILike(
            model=MODEL,
            api_base=base_url,
            api_key=key,
            is_chat_model=True,
            is_function_calling_model=True,
            temperature=0,
            max_retries=0,
        )

    def test_chat_and_stream(self, model: Any) -> None:
        answer = model.complete(SAY).text
        assert answer
        *_, last = model.stream_complete(SAY)
        assert last.text == answer

    def test_a_tool(self, model: Any) -> None:
        from llama_index.core.tools import FunctionTool

        def get_weather(city: str) -> str:
            """The weather in a city."""
            return f"Sun in {city}."

        tool = FunctionTool.from_defaults(get_weather)
        answer = model.predict_and_call([tool], "Weather in Rome?", tool_required=True)
        assert answer.response.startswith("Sun in ")


class TestInstructor:
    @pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
    def test_a_model_of_pydantic(self, base_url: str, key: str, mode: str) -> None:
        import instructor
        import openai

        client = instructor.from_openai(
            openai.OpenAI(base_url=base_url, api_key=key, max_retries=0),
            mode=instructor.Mode[mode],
        )
        found = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "A ripe mango."}],
            response_model=Fruit,
            max_retries=0,
        )
        assert isinstance(found, Fruit)


class TestPydanticAI:
    @pytest.fixture
    def model(self, base_url: str, key: str) -> Any:
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=base_url, api_key=key))

    def test_chat(self, model: Any) -> None:
        from pydantic_ai import Agent

        assert Agent(model).run_sync(SAY).output

    def test_an_output_type(self, model: Any) -> None:
        from pydantic_ai import Agent, NativeOutput

        for kind in (Fruit, NativeOutput(Fruit)):
            assert isinstance(Agent(model, output_type=kind).run_sync("A mango.").output, Fruit)


class TestLLM:
    def test_chat(self, base_url: str, key: str, tmp_path: Path) -> None:
        model = {
            "model_id": "tiny",
            "model_name": MODEL,
            "api_base": base_url,
            "api_key_name": "test",
            "supports_schema": True,
        }
        (tmp_path / "keys.json").write_text(json.dumps({"test": key}))
        (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([model]))
        environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}

        def llm(*arguments: str) -> str:
            command = [sys.executable, "-m", "llm", "-m", "tiny", *arguments]
            return subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        assert llm(SAY).strip()
        assert llm("--no-stream", SAY).strip()
        assert list(json.loads(llm("--schema", "name, ripe bool", "A mango."))) == ["name", "ripe"]


class TestOpenAI:
    @pytest.fixture
    def client(self, base_url: str, key: str) -> Any:
        import openai

        return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)

    def test_a_round_trip_of_a_tool(self, client: Any) -> None:
        messages: list[Any] = [{"role": "user", "content": "Weather in Rome?"}]
        first = client.chat.completions.create(
            model=MODEL, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0
        )
        assert first.choices[0].finish_reason == "tool_calls"
        (call,) = first.choices[0].message.tool_calls
        messages += [
            first.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        second = client.chat.completions.create(
            model=MODEL, messages=messages, tools=[WEATHER], temperature=0, max_tokens=50
        )
        assert second.choices[0].finish_reason in ("stop", "length")

    def test_a_parsed_answer(self, client: Any) -> None:
        found = client.chat.completions.parse(
            model=MODEL,
            messages=[{"role": "user", "content": "A ripe mango."}],
            response_format=Fruit,
        )
        assert isinstance(found.choices[0].message.parsed, Fruit)
