"""Images among the steps of a fake llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from engine_fakes import Bench, FakeEncoder, answer, image_tokens, text_of

from llmengine.core import Media
from llmengine.errors import Internal, InvalidRequest
from llmengine.llama.context import Status

BEFORE, AFTER = list(range(1, 41)), list(range(50, 70))


def picture(name: str, length: int = 100) -> Media:
    return Media("image", bytes([length]) + name.encode())


def prompt(*parts: Sequence[int] | Media) -> list[int]:
    return [
        token
        for part in parts
        for token in (image_tokens(part) if isinstance(part, Media) else part)
    ]


def bench(**options: object) -> Bench:
    return Bench(encoder=FakeEncoder(), **options)  # type: ignore[arg-type]


def test_an_image_is_a_step_of_its_own_between_text_before_and_after() -> None:
    one, cat = bench(), picture("cat")
    tokens = prompt(BEFORE, cat, AFTER)
    one.add("a", tokens, images=[cat])
    one.run()
    assert one.text("a") == text_of(answer(tokens, 8))
    assert [len(items[0][2]) for items in one.context.steps[:3]] == [40, 100, 20]
    assert one.context.seen == [100]


def test_streams_get_their_tokens_between_the_chunks_of_an_image() -> None:
    one, cat = bench(max_itl=1e-9), picture("cat", 120)  # no step is short enough
    one.add("stream", BEFORE, 60)
    one.step()
    tokens = prompt(BEFORE, cat, AFTER)
    one.add("a", tokens, images=[cat])
    one.run()
    assert one.text("a") == text_of(answer(tokens, 8))
    assert one.text("stream") == text_of(answer(BEFORE, 60))
    kinds = ["image" if items[0][2][0] < 0 else "text" for items in one.context.steps]
    first, last = kinds.index("image"), len(kinds) - 1 - kinds[::-1].index("image")
    assert set(kinds[first : last + 1 : 2]) == {"image"}
    assert set(kinds[first + 1 : last : 2]) == {"text"}
    assert one.context.seen == [8] * 15


def test_what_looks_both_ways_is_never_divided() -> None:
    one, cat = bench(rows=128), picture("cat", 120)
    one.scheduler._admission._encoder.causal = False  # type: ignore[union-attr]
    one.add("stream", BEFORE, 60)
    one.step()
    one.add("a", prompt(BEFORE, cat, AFTER), images=[cat])
    one.run()
    assert one.context.seen == [120]


def test_an_image_that_is_known_is_not_computed_again() -> None:
    one, cat, dog = bench(), picture("cat"), picture("dog")
    for name, media, cached in (("a", cat, 0), ("b", cat, 159), ("c", dog, 40)):
        tokens = prompt(BEFORE, media, AFTER)
        one.add(name, tokens, images=[media])
        one.run()
        assert one.text(name) == text_of(answer(tokens, 8))
        assert one.last(name).usage.cached_tokens == cached  # type: ignore[union-attr]
    tokens = prompt(BEFORE, cat, AFTER, dog, AFTER)
    one.add("d", tokens, images=[cat, dog])
    one.run()
    assert one.text("d") == text_of(answer(tokens, 8))
    assert one.last("d").usage.cached_tokens == 160  # type: ignore[union-attr]
    assert len(one.scheduler._admission._encoder.started) == 3  # type: ignore[union-attr]


def test_a_prompt_that_ends_with_an_image_shares_none_of_it() -> None:
    one, cat = bench(), picture("cat")
    for name in "ab":
        one.add(name, prompt(BEFORE, cat), images=[cat])
        one.run()
        assert one.text(name) == text_of(answer(prompt(BEFORE, cat), 8))
    assert one.last("b").usage.cached_tokens == 40  # type: ignore[union-attr]


def test_others_go_first_while_an_image_is_encoded() -> None:
    encoder, cat = FakeEncoder(holding=True), picture("cat")
    one = Bench(encoder=encoder)
    one.add("a", prompt(BEFORE, cat, AFTER), images=[cat])
    one.step()
    assert one.scheduler.reading
    one.add("b", AFTER)
    while not one.outputs["b"] or not one.last("b").finish_reason:
        one.step()
    assert one.outputs["a"] == []
    encoder.release()
    one.run()
    assert one.text("a") == text_of(answer(prompt(BEFORE, cat, AFTER), 8))


def test_an_image_that_cannot_be_encoded_ends_its_request_alone() -> None:
    encoder, cat = FakeEncoder(holding=True), picture("cat")
    one = Bench(encoder=encoder)
    one.add("a", prompt(BEFORE, cat, AFTER), images=[cat])
    one.add("b", AFTER)
    one.step()
    encoder.started[0].error = Internal("it failed")
    encoder.release()
    one.run()
    assert one.last("a").finish_reason == "error"
    assert one.last("b").finish_reason == "length"


def test_few_wait_for_embeddings_at_once() -> None:
    encoder = FakeEncoder(holding=True)
    one = Bench(encoder=encoder)
    media = [picture(str(number)) for number in range(10)]
    for number, each in enumerate(media):
        one.add(str(number), prompt(BEFORE, each, AFTER), images=[each])
    one.step()
    assert len(encoder.started) == 4
    encoder.holding = False
    encoder.release()
    one.run()
    for number, each in enumerate(media):
        assert one.text(str(number)) == text_of(answer(prompt(BEFORE, each, AFTER), 8))


@pytest.mark.parametrize("pool", [0, 1 << 20])
def test_preempted_requests_compute_their_image_again_or_have_it_saved(pool: int) -> None:
    one = bench(cells=420, pool=pool, kept=0)
    media = [picture(name) for name in "abc"]
    for each in media:
        tokens = prompt(each, AFTER)
        one.add(each.data[1:].decode(), tokens, 90, images=[each])
    one.run()
    for each in media:
        expected = text_of(answer(prompt(each, AFTER), 90))
        assert one.text(each.data[1:].decode()) == expected
    assert one.scheduler.preemptions


@pytest.mark.parametrize("status", [Status.ABORTED, Status.NO_ROOM])
@pytest.mark.parametrize("steps", [2, 6])
def test_a_step_that_failed_where_nothing_can_be_cut_has_the_image_computed_again(
    status: Status, steps: int
) -> None:
    """With one step undone all that came before is lost, the image too."""
    one, cat = bench(can_truncate=False), picture("cat")
    tokens = prompt(BEFORE, cat, AFTER)
    one.add("a", tokens, images=[cat])
    one.add("b", BEFORE[:20], 30)
    for _ in range(steps):
        one.step()
    one.context.statuses = [status]
    one.run()
    assert one.text("a") == text_of(answer(tokens, 8))
    assert one.text("b") == text_of(answer(BEFORE[:20], 30))


def test_a_cancelled_image_leaves_nothing_that_is_cut() -> None:
    one, cat = bench(max_itl=1e-9), picture("cat", 120)
    tokens = prompt(BEFORE, cat, AFTER)
    one.add("stream", BEFORE, 100)
    one.step()
    one.add("a", tokens, images=[cat])
    while not one.context.seen:
        one.step()
    one.runner.cancel("a")
    one.add("b", tokens, images=[cat])
    one.run()
    assert one.text("b") == text_of(answer(tokens, 8))
    assert one.last("b").usage.cached_tokens == 40  # type: ignore[union-attr]


def test_only_spans_of_the_media_that_came_are_taken() -> None:
    one, cat, dog = bench(), picture("cat"), picture("dog")
    for tokens, images in (
        (prompt(BEFORE, cat), [dog]),
        (prompt(BEFORE, cat), [cat, dog]),
        (prompt(BEFORE, cat, dog), [dog, cat]),
        (prompt(BEFORE, cat, dog), [cat]),
        (prompt(BEFORE, image_tokens(cat)[:-1]), [cat]),
        (prompt(BEFORE, image_tokens(cat)[:50], AFTER, image_tokens(cat)[50:]), [cat]),
        (prompt(image_tokens(cat)[1:], cat), [cat]),
        (BEFORE, [cat]),
    ):
        with pytest.raises(InvalidRequest, match="not those that came with it"):
            one.add("a", tokens, images=images)
