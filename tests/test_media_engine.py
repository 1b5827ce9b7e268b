"""Images and recordings through the real engine, with projectors of random weights."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mtmd_reference
import numpy as np
import pytest
import real
import tiny_models
import tiny_projectors
from media_files import image, sound
from serving import eventually

from llmengine.core import Media, Request
from llmengine.engine.engine import Engine
from llmengine.errors import InvalidRequest, ModelUnavailable
from llmengine.llama.vectors import Vectors
from llmengine.sampling import SamplingParams

pytestmark = pytest.mark.model

WIDTH = 256  # of the embedded model
BEFORE, AFTER = "<|im_start|>user\nLook: ", " What is it?<|im_end|>\n<|im_start|>assistant\n"
KINDS = {
    "fixed": (tiny_projectors.fixed, real.MODEL, image),
    "growing": (tiny_projectors.growing, real.MODEL, image),
    "turning": (tiny_projectors.growing, tiny_models.turning, image),
    "hearing": (tiny_projectors.hearing, real.MODEL, sound),
}


def engine_of(kind: str, folder: Path, **options: Any) -> Engine:
    projector, model, _ = KINDS[kind]
    size = WIDTH
    if not isinstance(model, Path):
        model, size = model(folder / "model.gguf"), tiny_models.WIDTH
    path = projector(folder / f"mmproj-{kind}.gguf", size)
    settings = {"threads": 2, "context_size": 2048, "disk": False, **options}
    return Engine(real.config(model, mmproj=str(path), **settings))


@pytest.fixture(scope="module", params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def engine(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine_of(kind, tmp_path_factory.mktemp(kind)) as engine:
        yield engine


def media_of(kind: str, number: int) -> Media:
    return KINDS[kind][2](200 * number)


def asked(engine: Engine, name: str, *parts: str | Media, **params: Any) -> Request:
    """A request of text and media."""
    tokens: list[int] = []
    for part in parts:
        text = isinstance(part, str)
        tokens += engine.tokenize(part, special=True) if text else engine.media_tokens(part)
    media = tuple(each for each in parts if isinstance(each, Media))
    salt = params.pop("salt", "")
    params = {"max_tokens": 12, "temperature": 0, "logprobs": 0, "ignore_eos": True, **params}
    return Request(
        id=name, prompt=tuple(tokens), media=media, params=SamplingParams(**params),
        cache_salt=salt,
    )  # fmt: skip


def answer(engine: Engine, *parts: str | Media, **params: Any) -> real.Result:
    return real.run(engine, [asked(engine, "one", *parts, **params)])["one"]


def start(result: real.Result) -> list[float]:
    return [each.logprob for each in result.logprobs]


def test_it_computes_what_llama_cpp_computes(engine: Engine, kind: str) -> None:
    one, two = media_of(kind, 1), media_of(kind, 2)
    for parts in ([one, AFTER], [BEFORE, one, AFTER], [BEFORE, one, " and ", two, two, AFTER]):
        expected = mtmd_reference.logits(engine, *parts).astype(float)
        expected -= np.log(np.exp(expected - expected.max()).sum()) + expected.max()
        first = answer(engine, *parts).logprobs[0]
        assert first.logprob == pytest.approx(expected[first.token], abs=2e-2)
        assert first.logprob == pytest.approx(expected.max(), abs=2e-2)


def test_the_same_image_is_found_in_the_cache_and_another_is_not(engine: Engine, kind: str) -> None:
    before, parts = engine.tokenize(BEFORE, special=True), [BEFORE, media_of(kind, 3), AFTER]
    first = answer(engine, *parts, salt="found")
    again = answer(engine, *parts, salt="found")
    other = answer(engine, BEFORE, media_of(kind, 4), AFTER, salt="found")
    assert first.usage.cached_tokens == 0
    assert again.usage.cached_tokens == first.usage.prompt_tokens - 1
    assert start(again) == pytest.approx(start(first), abs=2e-2)
    # What comes before the image, its frame of tokens included.
    frame = engine.media_tokens(media_of(kind, 4))
    first_of_image = next(at for at, token in enumerate(frame) if token < 0)
    assert other.usage.cached_tokens == len(before) + first_of_image
    assert start(other) != pytest.approx(start(first), abs=1e-3)


def test_a_longer_conversation_goes_on_behind_its_images(engine: Engine, kind: str) -> None:
    one, two = media_of(kind, 5), media_of(kind, 6)
    first = answer(engine, BEFORE, one, AFTER, salt="longer")
    whole = [BEFORE, one, AFTER, "I see.<|im_end|>\n", BEFORE, two, one, AFTER]
    shared = answer(engine, *whole, salt="longer")
    alone = answer(engine, *whole, salt="alone")
    assert shared.usage.cached_tokens >= first.usage.prompt_tokens
    assert alone.usage.cached_tokens == 0
    assert start(shared) == pytest.approx(start(alone), abs=5e-2)


def test_what_was_streamed_is_what_is_whole(engine: Engine, kind: str) -> None:
    result = answer(engine, BEFORE, media_of(kind, 1), AFTER)
    assert "".join(result.pieces) == result.text
    assert len(result.logprobs) == 12


def test_equal_alone_and_among_others(kind: str, tmp_path: Path) -> None:
    media = [media_of(kind, number) for number in (1, 2, 3)]
    prompts = [[BEFORE, each, AFTER] for each in media]
    prompts += [[BEFORE, media[0], media[1], AFTER], [BEFORE, AFTER], [AFTER]]
    with engine_of(kind, tmp_path, deterministic=True) as engine:
        alone = [answer(engine, *each, salt=f"alone {at}") for at, each in enumerate(prompts)]
        requests = [asked(engine, str(at), *each) for at, each in enumerate(prompts)]
        together = real.run(engine, requests)
    assert [start(each) for each in alone] == [
        start(together[str(at)]) for at in range(len(prompts))
    ]


@pytest.mark.parametrize("kind", ["turning", "fixed"])
def test_states_with_images_survive_a_restart(kind: str, tmp_path: Path) -> None:
    parts = [BEFORE, media_of(kind, 1), AFTER, "and so on, " * 20]
    options = {"disk": True, "path": str(tmp_path / "states"), "min_tokens": 16}
    with engine_of(kind, tmp_path, **options) as engine:
        first = answer(engine, *parts)
    with engine_of(kind, tmp_path, **options) as engine:
        other = answer(engine, BEFORE, media_of(kind, 2), AFTER)
        again = answer(engine, *parts)
        longer = answer(engine, BEFORE, media_of(kind, 1), " more " * 30)
        image_at = [at for at, token in enumerate(asked(engine, "", *parts).prompt) if token < 0]
    assert other.usage.cached_tokens <= image_at[0]
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert longer.usage.cached_tokens > image_at[-1]
    assert start(again) == pytest.approx(start(first), abs=2e-2)


@pytest.mark.parametrize("kind", ["turning"])
@pytest.mark.parametrize("pool", [0, 64])
def test_preempted_requests_are_what_they_would_be(kind: str, pool: int, tmp_path: Path) -> None:
    prompts = [[BEFORE, media_of(kind, number), AFTER] for number in range(4)]
    with engine_of(
        kind, tmp_path, context_size=400, memory_pool_size_mb=pool, max_sequences=0,
        deterministic=True,
    ) as engine:  # fmt: skip
        params = {"max_tokens": 100}
        alone = [start(answer(engine, *each, **params)) for each in prompts]
        requests = [asked(engine, str(at), *each, **params) for at, each in enumerate(prompts)]
        together = real.run(engine, requests)
        assert engine.stats().preemptions
    assert [start(together[str(at)]) for at in range(4)] == alone


class Gate:
    """A projector that encodes when it is told to."""

    def __init__(self, projector: Any) -> None:
        self._projector = projector
        self.begun, self.open = threading.Event(), threading.Event()
        self.encoded = 0

    def encode(self, media: Media) -> Iterator[Vectors]:
        self.begun.set()
        assert self.open.wait(60)
        self.encoded += 1
        yield from self._projector.encode(media)


def gated(engine: Engine) -> Gate:
    assert engine._encoder is not None
    gate = Gate(engine._projector)
    engine._encoder._projector = gate
    return gate


def test_streams_go_on_while_an_image_is_encoded(tmp_path: Path) -> None:
    with engine_of("fixed", tmp_path) as engine:
        gate = gated(engine)
        seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        engine.submit(asked(engine, "seen", BEFORE, image(1), AFTER), seen.put)
        assert gate.begun.wait(60)
        assert len(answer(engine, AFTER).logprobs) == 12
        assert seen.empty()
        gate.open.set()
        assert seen.get(timeout=60)


def test_a_projector_that_hangs_is_seen(tmp_path: Path) -> None:
    with engine_of("fixed", tmp_path) as engine:
        gate = gated(engine)
        seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        engine.submit(asked(engine, "seen", BEFORE, image(1), AFTER), seen.put)
        assert eventually(lambda: engine.state().stalled > 0.2)
        gate.open.set()
        assert seen.get(timeout=60)
        assert eventually(lambda: engine.state().stalled == 0)


def test_a_request_is_cancelled_while_its_image_is_encoded(tmp_path: Path) -> None:
    with engine_of("fixed", tmp_path) as engine:
        gate = gated(engine)
        seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        engine.submit(asked(engine, "first", BEFORE, image(1), AFTER), seen.put)
        engine.submit(asked(engine, "second", BEFORE, image(2), AFTER), seen.put)
        assert gate.begun.wait(60)
        engine.cancel("first")
        engine.cancel("second")
        ended: list[str] = []
        while len(ended) < 2:
            ended += [output.finish_reason for output in seen.get(timeout=60)]
        assert ended == ["cancelled"] * 2
        gate.open.set()
        assert len(answer(engine, BEFORE, image(3), AFTER).logprobs) == 12
        assert gate.encoded == 2  # nobody waited for the second one any more


def test_what_was_encoded_is_kept_within_its_budget(tmp_path: Path) -> None:
    with engine_of("fixed", tmp_path, enabled=False) as engine:
        gate = gated(engine)
        gate.open.set()
        for number in (1, 1, 2, 1):
            answer(engine, BEFORE, image(number), AFTER)
        assert gate.encoded == 2
    with engine_of("fixed", tmp_path, enabled=False, media_cache_mb=0) as engine:
        gate = gated(engine)
        gate.open.set()
        for number in (1, 1):
            answer(engine, BEFORE, image(number), AFTER)
        assert gate.encoded == 2


def test_an_engine_closes_while_an_image_is_encoded(tmp_path: Path) -> None:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    engine = engine_of("fixed", tmp_path)
    gate = gated(engine)
    engine.submit(asked(engine, "first", BEFORE, image(1), AFTER), seen.put)
    assert gate.begun.wait(60)
    gate.open.set()
    engine.close()
    assert seen.get(timeout=60)[-1].finish_reason in ("cancelled", "error")
    with pytest.raises(ModelUnavailable):
        engine.media_tokens(image(2))


def test_the_shortest_images_are_kept_apart_as_well(tmp_path: Path) -> None:
    """One token, of whose ids only its length could tell."""
    path = tiny_projectors.fixed(tmp_path / "mmproj.gguf", WIDTH, merge=tiny_projectors.GRID)
    with Engine(real.config(mmproj=str(path), disk=False)) as engine:
        first = answer(engine, BEFORE, image(1), AFTER)
        other = answer(engine, BEFORE, image(2), AFTER)
        again = answer(engine, BEFORE, image(1), AFTER)
    assert other.usage.cached_tokens == 0
    assert again.usage.cached_tokens == first.usage.prompt_tokens - 1


def test_what_a_model_does_not_take_is_refused(tmp_path: Path) -> None:
    with engine_of("fixed", tmp_path) as engine:
        assert engine.info().media == ("image",)
        with pytest.raises(InvalidRequest, match="takes no sound: its projector is for image only"):
            engine.media_tokens(sound(440))
        with pytest.raises(InvalidRequest, match="no known format"):
            engine.media_tokens(Media("image", b"hello"))
        request = asked(engine, "one", BEFORE, image(1), AFTER)
        with pytest.raises(InvalidRequest, match="outside 0"):
            engine.submit(Request(id="one", prompt=request.prompt, params=request.params), print)
    with (
        Engine(real.config(disk=False)) as engine,
        pytest.raises(InvalidRequest, match="start it with --mmproj"),
    ):
        engine.media_tokens(image(1))


def test_an_image_that_must_not_be_divided_has_to_fit(tmp_path: Path) -> None:
    path = tiny_projectors.fixed(tmp_path / "mmproj.gguf", WIDTH, grid=8)
    with Engine(real.config(mmproj=str(path), disk=False, deterministic=True)) as engine:
        request = asked(engine, "one", BEFORE, image(1), AFTER)
        with pytest.raises(InvalidRequest, match=r"takes 64 tokens in one batch, and 60 are the"):
            engine.submit(request, print)
    with Engine(real.config(mmproj=str(path), disk=False)) as engine:
        assert len(answer(engine, BEFORE, image(1), AFTER).logprobs) == 12


def test_projectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tiny_projectors.fixed(tmp_path / "mmproj.gguf", 64)
    with pytest.raises(ModelUnavailable, match="mismatch between text model"):
        Engine(real.config(mmproj=str(path)))
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelUnavailable, match="not a GGUF file"):
        Engine(real.config(mmproj=str(tmp_path / "text.gguf")))
    with pytest.raises(ModelUnavailable, match="cannot load the projector"):
        Engine(real.config(mmproj=str(real.MODEL)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (200, 1), (3, 500), (400, 240)])
def test_images_of_any_shape(engine: Engine, kind: str, width: int, height: int) -> None:
    if kind != "hearing":
        result = answer(engine, BEFORE, image(1, width, height), AFTER)
        assert len(result.logprobs) == 12


@pytest.mark.parametrize(("seconds", "rate"), [(0.01, 16_000), (0.5, 8_000), (31, 16_000)])
def test_sound_of_any_length(tmp_path: Path, seconds: float, rate: int) -> None:
    with engine_of("hearing", tmp_path) as engine:
        result = answer(engine, BEFORE, sound(440, seconds, rate), AFTER)
        assert len(result.logprobs) == 12
