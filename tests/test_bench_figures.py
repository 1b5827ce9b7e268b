"""The arithmetic of reports, on records whose figures can be told by heart."""

from __future__ import annotations

import random

import pytest

from llmengine.bench.figures import Goodput, errors, figures, goodput
from llmengine.bench.record import Record
from llmengine.bench.server import Plan, Step, rows
from llmengine.bench.words import WORDS, Ruler
from llmengine.errors import InvalidRequest


def record(*arrivals: float, started: float = 0.0, tokens: int | None = None, **more) -> Record:
    made = Record("", started, arrivals=list(arrivals), prompt_tokens=10, **more)
    made.output_tokens = len(arrivals) if tokens is None else tokens
    return made


def test_latencies_of_one_request() -> None:
    one = record(1.5, 1.75, 2.5, started=1.0, tokens=6)
    assert (one.ttft, one.e2el, one.tpot) == (0.5, 1.5, 0.2)
    assert one.itl == [0.25, 0.75]


def test_a_single_token_has_no_time_per_output_token() -> None:
    one = record(0.5)
    assert one.tpot is None
    assert one.itl == []
    found = figures([one], 1.0, Goodput())
    assert found["mean_ttft_ms"] == 500
    assert "mean_tpot_ms" not in found
    assert "mean_itl_ms" not in found


def test_throughput_counts_what_was_completed() -> None:
    records = [
        record(1.0, 2.0, cached_tokens=4),
        record(1.0, 3.0, 4.0),
        record(1.0, error="the stream broke off"),
        record(error="HTTP 503: queue full", refused=True),
    ]
    found = figures(records, 4.0, Goodput())
    assert found["completed"] == 2
    assert found["failed"] == 1
    assert found["refused"] == 1
    assert found["request_throughput"] == 0.5
    assert found["output_throughput"] == 5 / 4
    assert found["total_token_throughput"] == 25 / 4
    assert found["total_input_tokens"] == 20
    assert found["total_cached_tokens"] == 4
    assert errors(records) == {"the stream broke off": 1, "HTTP 503: queue full": 1}


def test_percentiles_lie_between_the_nearest_values() -> None:
    """As numpy and `vllm bench serve` have them: of 11 values, the 90 % lie at the tenth."""
    found = figures([record(float(number)) for number in range(11)], 1.0, Goodput())
    assert found["mean_ttft_ms"] == found["median_ttft_ms"] == 5000
    assert found["p90_ttft_ms"] == 9000
    assert found["p99_ttft_ms"] == pytest.approx(9900)
    assert found["max_ttft_ms"] == 10_000


def test_inter_token_latencies_are_those_of_all_requests() -> None:
    found = figures([record(1.0, 1.25), record(1.0, 1.5, 3.0)], 1.0, Goodput())
    assert found["median_itl_ms"] == 500
    assert found["mean_itl_ms"] == 750
    assert found["max_itl_ms"] == 1500


def test_nothing_completed_has_no_latencies() -> None:
    assert figures([record(error="HTTP 500: no")], 2.0, Goodput()) == {
        "duration": 2.0,
        "completed": 0,
        "failed": 1,
        "refused": 0,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "total_cached_tokens": 0,
        "request_throughput": 0.0,
        "output_throughput": 0.0,
        "total_token_throughput": 0.0,
    }


def test_goodput_counts_those_that_keep_to_every_objective() -> None:
    wanted = goodput(["ttft:500 tpot:50", "e2el:2000"])
    assert wanted == Goodput({"ttft": 500, "tpot": 50, "e2el": 2000})
    fast = record(0.5, 0.53125)
    late = record(0.75, 0.78125)
    slow = record(0.5, 0.6)
    long = record(0.5, 2.5, tokens=101)
    assert [wanted.met(each) for each in (fast, late, slow, long)] == [True, False, False, False]
    assert figures([fast, late, slow, long], 2.0, wanted)["request_goodput"] == 0.5
    assert "request_goodput" not in figures([fast], 2.0, Goodput())


@pytest.mark.parametrize("text", ["ttft", "ttft:fast", "itl:5", "ttft:-1"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"--goodput '{text}' is no objective"):
        goodput([text])


def test_rounds_become_medians_with_their_range() -> None:
    step = Step("random", clients=2)
    rounds = [([record(seconds)], 1.0) for seconds in (1.0, 3.0, 2.0)]
    (row,) = rows(step, rounds, Goodput())
    assert row.name == "random @ 2 clients"
    spread = row.figures["mean_ttft_ms"]
    assert (spread.median, spread.least, spread.most, spread.rounds) == (2000, 1000, 3000, 3)


def test_parts_of_a_workload_have_rows_of_their_own() -> None:
    first, later = record(2.0), record(1.0)
    first.part, later.part = "first turns", "later turns"
    found = rows(Step("multi-turn", clients=1), [([first, later], 1.0)], Goodput())
    assert [(row.group, row.figures["mean_ttft_ms"].median) for row in found] == [
        ("multi-turn", 1500),
        ("multi-turn, first turns", 2000),
        ("multi-turn, later turns", 1000),
    ]


def test_loads_are_named() -> None:
    assert [step.name for step in Plan(clients=(1, 2)).steps()] == [
        "random @ 1 client",
        "random @ 2 clients",
    ]
    assert [step.name for step in Plan(rates=(0.5, 2)).steps()] == [
        "random @ 0.5/s",
        "random @ 2/s",
    ]


def test_a_ruler_fits_words_to_a_tokenizer() -> None:
    """Five tokens a word and 12 around it, as a vocabulary of letters has it."""
    ruler = Ruler.of((40, 212), (240, 1212))
    assert (ruler.per_word, ruler.around) == (5.0, 12.0)
    assert ruler.words(212) == 40
    assert ruler.words(200, around=False) == 40
    assert ruler.words(1) == 1
    assert Ruler.of((40, 0), (240, 0)) == Ruler(1.0, 0.0)


def test_all_words_are_of_one_length() -> None:
    assert {len(word) for word in WORDS} == {3}
    assert len(set(WORDS)) == len(WORDS)
    assert random.Random(0).choices(WORDS, k=3) == random.Random(0).choices(WORDS, k=3)
