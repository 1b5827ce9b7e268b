"""Workloads, and who asks when, with a client that answers at once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from llmengine.bench import replay, server
from llmengine.bench.load import Load, poisson
from llmengine.bench.local import Found
from llmengine.bench.probe import Target
from llmengine.bench.progress import Silent
from llmengine.bench.record import Record
from llmengine.bench.words import Ruler
from llmengine.bench.workloads import WORKLOADS, Conversation, Turn
from llmengine.errors import InvalidRequest


class FakeClient:
    """Each request takes a few turns of the event loop; the most that ran at once is kept."""

    def __init__(self, answer: str = "Yes", error: str = "") -> None:
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most = 0
        self.answer, self.error = answer, error
        self.endless = False

    async def ask(
        self, body: Mapping[str, Any], part: str = "", *, begun: Callable[[], None]
    ) -> Record:
        self.bodies.append(dict(body))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        begun()
        if self.endless and len(self.bodies) > 2:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.running -= 1
        return Record(
            part, 0.0, arrivals=[1.0], text=self.answer, error=self.error, finish_reason="stop"
        )


def single(text: str, **more: Any) -> Conversation:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
    return Conversation((Turn(body, **more),))


def test_clients_of_a_closed_load_wait_for_their_answers() -> None:
    client = FakeClient()
    ended: list[int] = []
    load = Load(client, {"model": "m"}, {"ignore_eos": True}, lambda: ended.append(1))
    asyncio.run(load.closed([single(str(number)) for number in range(10)], 3))
    assert client.most == 3
    assert len(load.records) == len(ended) == 10
    assert client.bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "0"}],
        "max_tokens": 4,
        "ignore_eos": True,
    }


def test_what_may_end_by_itself_is_not_filled() -> None:
    client = FakeClient()
    asyncio.run(Load(client, {}, {"ignore_eos": True}).closed([single("a", full=False)], 1))
    assert "ignore_eos" not in client.bodies[0]


def test_a_turn_has_all_that_was_said_before() -> None:
    client = FakeClient()
    (conversation,) = WORKLOADS["multi-turn"].make(
        random.Random(0), Ruler(), WORKLOADS["multi-turn"].size(1, {"count": 1, "turns": 3})
    )
    load = Load(client, {}, {})
    asyncio.run(load.closed([conversation], 1))
    roles = [[message["role"] for message in body["messages"]] for body in client.bodies]
    assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant"] * 2 + ["user"]]
    assert client.bodies[2]["messages"][:3] == client.bodies[1]["messages"]
    assert client.bodies[1]["messages"][1]["content"] == "Yes"
    assert [record.part for record in load.records] == ["first turns", *["later turns"] * 2]


def test_a_conversation_ends_with_its_first_error() -> None:
    client = FakeClient(error="HTTP 500: no")
    workload = WORKLOADS["multi-turn"]
    conversations = workload.make(random.Random(0), Ruler(), workload.size(1, {"count": 2}))
    load = Load(client, {}, {})
    asyncio.run(load.closed(conversations, 1))
    assert len(load.records) == 2


def test_a_long_prompt_comes_when_all_streams_have_begun() -> None:
    client = FakeClient()
    workload = WORKLOADS["long-prompt-arrives"]
    conversations = workload.make(random.Random(0), Ruler(), workload.size(4, {}))
    asyncio.run(Load(client, {}, {}).closed(conversations, 4))
    lengths = [len(body["messages"][0]["content"].split()) for body in client.bodies]
    assert lengths == [20, 20, 20, 20, 3200]
    assert client.most == 5


def test_a_burst_comes_at_once() -> None:
    client = FakeClient()
    load = Load(client, {}, {})
    asyncio.run(load.arriving([single("a")] * 12, [0.0] * 12))
    assert client.most == 12
    assert WORKLOADS["burst"].size(3, {}).count == 12
    assert WORKLOADS["burst"].at_once


def test_what_was_answered_stays_when_the_rest_is_cancelled() -> None:
    client = FakeClient()
    client.endless = True
    load = Load(client, {}, {})

    async def main() -> None:
        running = asyncio.create_task(load.closed([single("a")] * 5, 1))
        while len(client.bodies) < 3:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert len(load.records) == 2


def test_an_interrupted_load_has_its_rows() -> None:
    client = FakeClient()
    client.endless = True
    found = Found()
    target = Target("m", Ruler(), {})

    async def main() -> None:
        running = asyncio.create_task(
            server._measure(
                client,  # type: ignore[arg-type]
                server.Step("random", clients=1),
                server.Plan(),
                target,
                random.Random(0),
                found,
                Silent(),
            )
        )
        while len(client.bodies) < 3:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert [row.figures["completed"].median for row in found.rows] == [2]


def test_arrivals_at_a_rate_are_random_and_have_it_on_average() -> None:
    times = poisson(10_000, 4.0, random.Random(0))
    assert times == sorted(times)
    assert times == poisson(10_000, 4.0, random.Random(0))
    assert times[-1] == pytest.approx(2500, rel=0.05)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Of exponential gaps, 1 - 1/e are shorter than their mean.
    assert sum(gap < 0.25 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


@pytest.mark.parametrize(
    ("text", "error"), [('{"name": "x"}', ""), ('{"name": ', "the answer is no JSON")]
)
def test_answers_that_have_to_be_json_are_checked(text: str, error: str) -> None:
    workload = WORKLOADS["json-schema"]
    conversations = workload.make(random.Random(0), Ruler(), workload.size(1, {"count": 1}))
    client = FakeClient(text)
    load = Load(client, {}, {"ignore_eos": True})
    asyncio.run(load.closed(conversations, 1))
    assert load.records[0].error == error
    assert "ignore_eos" not in client.bodies[0]
    assert client.bodies[0]["response_format"]["type"] == "json_schema"


def test_sizes_are_those_of_the_workload_unless_chosen() -> None:
    size = WORKLOADS["random"].size(32, {"output": 9})
    assert (size.count, size.input, size.output) == (64, 205, 9)
    assert WORKLOADS["random"].size(1, {}).count == 16


def test_shared_prefixes_are_shared_and_questions_are_not() -> None:
    workload = WORKLOADS["shared-prefix"]
    found = workload.make(random.Random(0), Ruler(per_word=2.0), workload.size(1, {"count": 3}))
    messages = [conversation.turns[0].body["messages"] for conversation in found]
    assert len({each[0]["content"] for each in messages}) == 1
    assert len(messages[0][0]["content"].split()) == 654
    assert len({each[1]["content"] for each in messages}) == 3
    parts = [conversation.turns[0].part for conversation in found]
    assert parts == ["first request", "later requests", "later requests"]


def test_edits_repeat_what_they_are_given() -> None:
    workload = WORKLOADS["repetitive-edit"]
    (found,) = workload.make(random.Random(0), Ruler(), workload.size(1, {"count": 1}))
    text = found.turns[0].body["messages"][0]["content"]
    first, _, code = text.partition("\n\n")
    name = code.partition(" ")[0]
    assert first == f"Rename {name} to total and repeat all else as it is:"
    assert len(code.splitlines()) == 50


# Replay


def test_recorded_requests_are_sent_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(
        '{"timestamp": 100.5, "messages": [], "max_tokens": 3, "model": "x", "stream": true}\n'
        "\n"
        '{"timestamp": 100, "body": {"prompt": "Hi", "temperature": 0}}\n'
    )
    first, second = replay.read(file)
    assert (first.at, second.at) == (0.5, 0.0)
    assert first.turns[0].body == {"messages": [], "max_tokens": 3}
    assert second.turns[0].body == {"prompt": "Hi", "temperature": 0}
    assert not first.turns[0].full


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no requests"),
        ('{"messages": []}\n{oops', ":2 is no JSON object"),
        ("[1]", ":1 is no JSON object"),
        ('{"model": "x"}', ":1 has neither messages nor a prompt"),
        ('{"messages": [], "timestamp": "now"}', ":1 has a timestamp that is no number"),
        ('{"prompt": "a"}\n{"prompt": "b", "timestamp": 1}', "in some lines only"),
    ],
)
def test_wrong_recordings_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=problem):
        replay.read(file)


def test_a_missing_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read .*: No such file"):
        replay.read(tmp_path / "none.jsonl")
