"""Files of requests that are answered when nobody waits: as OpenAI's client has them."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fakes import FakeHost
from msgspec.structs import replace
from openai.types import Batch
from serving import config, eventually, serving

from llmengine.core import Request, Stats
from llmengine.keys import KeyFile, generated
from llmengine.server.files_store import FilesStore

CHAT = "/v1/chat/completions"


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost(said) as host:
        yield host


@pytest.fixture
def client(host: FakeHost, at: Path) -> Iterator[httpx.Client]:
    with serving(host, config(files_path=str(at), max_body_mb=2)) as client:
        yield client


@pytest.fixture
def api(client: httpx.Client) -> openai.OpenAI:
    return api_of(client)


def api_of(client: httpx.Client, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{client.base_url}/v1", api_key=key, max_retries=0)


def said(request: Request) -> str:
    """What was asked, again."""
    text = bytes(each for each in request.prompt if each < 256).decode()
    return text.split("user\n")[-1].split("<|im_end|>")[0]


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def line(name: str, body: object, url: str = CHAT) -> str:
    made = {"custom_id": name, "method": "POST", "url": url, "body": body}
    return json.dumps(made) + "\n"


def begun(api: openai.OpenAI, lines: str, endpoint: Any = CHAT) -> Batch:
    file = api.files.create(file=("in.jsonl", lines.encode()), purpose="batch")
    return api.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )


def ended(api: openai.OpenAI, id: str) -> Batch:
    assert eventually(
        lambda: api.batches.retrieve(id).status in ("completed", "failed", "expired", "cancelled")
    )
    return api.batches.retrieve(id)


def counted(batch: Batch) -> int:
    assert batch.request_counts is not None
    return batch.request_counts.completed


def results(api: openai.OpenAI, file: str | None) -> dict[str, Any]:
    """The lines of a file by their names, in order."""
    assert file is not None
    lines = map(json.loads, api.files.content(file).text.splitlines())
    return {each["custom_id"]: each for each in lines}


def content(result: dict[str, Any]) -> str:
    found: str = result["response"]["body"]["choices"][0]["message"]["content"]
    return found


def test_each_request_of_a_file_is_answered(api: openai.OpenAI, host: FakeHost) -> None:
    lines = "".join(line(f"r{n}", ask(f"word {n} 🙂")) for n in range(9))
    batch = begun(api, lines + "\n" + line("wrong", {"messages": 1}))
    assert (batch.status, batch.metadata) == ("in_progress", {"a": "b"})
    done = ended(api, batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 10, "completed": 9, "failed": 1}
    found = results(api, done.output_file_id)
    assert {name: content(each) for name, each in found.items()} == {
        f"r{n}": f"word {n} 🙂" for n in range(9)
    }
    assert list(found) == [f"r{n}" for n in range(9)]
    (wrong,) = results(api, done.error_file_id).values()
    assert wrong["response"]["status_code"] == 400
    assert wrong["response"]["body"]["error"]["param"] == "messages"
    assert host.most_running <= 2
    assert [each.id for each in api.batches.list()] == [batch.id]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
        ("/v1/responses", {"input": "hi", "store": False}),
    ],
)
def test_answers_are_those_of_the_endpoint(
    api: openai.OpenAI, client: httpx.Client, endpoint: str, body: dict[str, Any]
) -> None:
    done = ended(api, begun(api, line("a", body, endpoint), endpoint).id)
    own = results(api, done.output_file_id)["a"]["response"]
    plain = client.post(endpoint, json=body).json()
    assert own["status_code"] == 200
    assert own["body"].keys() == plain.keys()
    assert own["body"].get("usage") == plain["usage"]


def test_files_come_and_go(api: openai.OpenAI, at: Path) -> None:
    name = "../../" + "ü" * 500 + "\n\0.jsonl"
    file = api.files.create(file=(name, b"{}\r\n\xff\0--"), purpose="batch")
    assert (file.bytes, file.purpose, file.status) == (8, "batch", "processed")
    assert len(file.filename) == 255
    assert api.files.retrieve(file.id) == file
    assert api.files.content(file.id).content == b"{}\r\n\xff\0--"
    more = [api.files.create(file=b"x", purpose="batch").id for _ in range(3)]
    assert {each.id for each in api.files.list()} == {file.id, *more}
    shown = [each.id for each in api.files.list(limit=2)]  # the client asks on
    assert sorted(shown) == sorted([file.id, *more])
    assert api.files.list(purpose="batch_output").data == []
    assert api.files.delete(file.id).deleted
    for gone in (api.files.retrieve, api.files.content, api.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)
    assert {each.name for each in at.iterdir()} <= {
        "cache.db", "cache.db-shm", "cache.db-wal", "lock",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", b""),
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x--x--x--x"),
        ("multipart/form-data; boundary=x", b"--x\r\nfoo\r\n\r\nbar\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n\xff\xfe\r\n\r\nbar\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n'
            b"Content-Type: text/plain; charset=none\r\n\r\nbatch\r\n--x--",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--x--',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--',
        ),
    ],
)
def test_what_is_no_upload_is_refused(client: httpx.Client, kind: str, body: bytes) -> None:
    answer = client.post("/v1/files", content=body, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_letters_of_a_boundary_end_no_file(api: openai.OpenAI, client: httpx.Client) -> None:
    content = b"edge --edge\r\n-- edge--\r\n"
    form = (
        b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="edge"\r\n\r\n%b\r\n'
        b"--edge--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=edge"}
    made = client.post("/v1/files", content=form % content, headers=kind).json()
    assert (made["filename"], made["bytes"]) == ("edge", len(content))
    assert api.files.content(made["id"]).content == content


def test_a_file_that_is_wrong_fails_with_its_lines(api: openai.OpenAI) -> None:
    lines = (
        line("a", ask("hi")) + line("a", ask("hi")) + line("b", ask("hi"), "/v1/embeddings")
        + line("c", [1]) + "\n" + line("d", ask("hi", stream=True)) + "{\n" + '{"custom_id": 1}\n'
    )  # fmt: skip
    for text, found in (
        (lines, [
            ("duplicate_custom_id", 2), ("mismatched_endpoint", 3), ("invalid_request", 4),
            ("invalid_request", 6), ("invalid_json_line", 7), ("invalid_json_line", 8),
        ]),
        ("\n \n", [("empty_file", None)]),
    ):  # fmt: skip
        batch = begun(api, text)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [(each.code, each.line) for each in batch.errors.data] == found
    with pytest.raises(openai.BadRequestError, match="there is no file 'file-1'"):
        api.batches.create(input_file_id="file-1", endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        api.batches.retrieve("batch_1")


@pytest.mark.parametrize("stream", [b'"\xff"', b"1e999"])
def test_a_body_that_cannot_be_read_has_its_answer(api: openai.OpenAI, stream: bytes) -> None:
    content = line("a", {"stream": "?"}).encode().replace(b'"?"', stream)
    file = api.files.create(file=("in.jsonl", content), purpose="batch")
    batch = api.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    done = ended(api, batch.id)
    (found,) = results(api, done.error_file_id).values()
    assert found["response"]["status_code"] == 400
    assert found["response"]["body"]["error"]["param"] == "stream"


def test_what_there_is_never_room_for_stops_no_batch(host: FakeHost, at: Path) -> None:
    settings = config(files_path=str(at), max_concurrent_requests=1, max_queue=2)
    with serving(host, settings) as client:
        api = api_of(client)
        done = ended(api, begun(api, line("a", ask("hi", n=4)) + line("b", ask("hi"))).id)
        assert (done.status, counted(done)) == ("completed", 1)
        (found,) = results(api, done.error_file_id).values()
        assert found["response"]["body"]["error"]["param"] == "n"


def test_files_and_batches_stay_in_the_order_in_which_they_came(
    api: openai.OpenAI, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmengine.server.files.now", lambda: 1_800_000_000)
    monkeypatch.setattr("llmengine.server.batches.now", lambda: 1_800_000_000)
    host.hold()
    batches = [begun(api, line("a", ask(f"word {n}"))) for n in range(8)]
    assert [each.id for each in api.batches.list()] == [each.id for each in batches[::-1]]
    files = [each.id for each in api.files.list(order="asc")]
    assert files == [each.input_file_id for each in batches]
    host.release()
    assert [ended(api, each.id).status for each in batches] == ["completed"] * 8
    assert [said(each) for each in host.requests] == [f"word {n}" for n in range(8)]


def test_a_batch_is_cancelled_and_keeps_what_it_has(api: openai.OpenAI, host: FakeHost) -> None:
    host.hold()
    batch = begun(api, "".join(line(f"r{n}", ask(f"word {n}")) for n in range(50)))
    waiting = begun(api, line("later", ask("hi")))
    assert eventually(lambda: host.running == 2)
    assert api.batches.cancel(waiting.id).status == "cancelling"
    assert api.batches.cancel(batch.id).status == "cancelling"
    host.release()
    done = ended(api, batch.id)
    assert done.status == "cancelled"
    assert sorted(results(api, done.output_file_id)) == ["r0", "r1"]
    assert ended(api, waiting.id).output_file_id is None
    with pytest.raises(openai.BadRequestError, match="the batch is cancelled"):
        api.batches.cancel(batch.id)
    assert len(host.requests) == 2


def test_it_goes_on_after_a_restart(at: Path) -> None:
    settings = config(files_path=str(at), drain_seconds=0)
    lines = "".join(line(f"r{n}", ask(f"word {n}")) for n in range(6))
    with FakeHost(said) as host:
        first: list[str] = []

        def held_from_the_third(request: Request) -> str:
            first.append(said(request))
            if len(first) == 3:
                host.hold()
            return said(request)

        host.answer = held_from_the_third
        with serving(host, settings) as client:
            batch = begun(api_of(client), lines)
            assert eventually(lambda: len(first) >= 3)
    with FakeHost(said) as host, serving(host, settings) as client:
        api = api_of(client)
        done = ended(api, batch.id)
        assert done.status == "completed"
        found = results(api, done.output_file_id)
        assert [content(each) for each in found.values()] == [f"word {n}" for n in range(6)]
        again = {said(each) for each in host.requests}
        assert "word 5" in again
        assert len(host.requests) < 6


class Crowded(FakeHost):
    """It says that others wait."""

    others = 1

    def stats(self) -> Stats:
        return replace(super().stats(), waiting=self.others)


def test_while_others_wait_it_asks_for_nothing(at: Path) -> None:
    with Crowded(said) as host, serving(host, config(files_path=str(at))) as client:
        api, before = api_of(client), len(host.requests)
        batch = begun(api, line("a", ask("hi")))
        assert client.post(CHAT, json=ask("I am in a hurry")).status_code == 200
        assert [said(each) for each in host.requests[before:]] == ["I am in a hurry"]
        host.others = 0
        assert ended(api, batch.id).status == "completed"


def test_a_busy_server_is_asked_again(api: openai.OpenAI, host: FakeHost) -> None:
    host.limit = 0
    batch = begun(api, line("a", ask("hi")))
    assert api.batches.retrieve(batch.id).status == "in_progress"
    host.limit = None
    done = ended(api, batch.id)
    assert list(results(api, done.output_file_id)) == ["a"]


def test_what_has_not_been_answered_in_a_day_expires(
    api: openai.OpenAI, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.limit = 0
    batch = begun(api, line("a", ask("hi")) + line("b", ask("hi")))
    assert batch.expires_at is not None
    end = batch.expires_at
    monkeypatch.setattr("llmengine.server.batch_work.now", lambda: end)
    done = ended(api, batch.id)
    assert done.status == "expired"
    found = results(api, done.error_file_id)
    assert [each["error"]["code"] for each in found.values()] == ["batch_expired"] * 2


def test_keys_see_only_their_own(host: FakeHost, at: Path) -> None:
    settings = config(files_path=str(at), api_keys=("one:secret-1", "two:secret-2"))
    with serving(host, settings) as client:
        mine, others = api_of(client, "secret-1"), api_of(client, "secret-2")
        batch = begun(mine, line("a", ask("hi")))
        done = ended(mine, batch.id)
        assert done.status == "completed"
        for call in (
            lambda: others.batches.retrieve(batch.id),
            lambda: others.batches.cancel(batch.id),
            lambda: others.files.content(str(done.output_file_id)),
            lambda: others.files.delete(batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
        assert others.files.list().data == others.batches.list().data == []
        assert b"secret" not in b"".join(each.read_bytes() for each in at.iterdir())


def test_what_does_not_fit_is_refused(host: FakeHost, at: Path) -> None:
    settings = config(files_path=str(at), files_max_size_mb=1)
    with serving(host, settings) as client:
        api = api_of(client)
        first = api.files.create(file=b"x" * 700_000, purpose="batch")
        with pytest.raises(openai.APIStatusError, match="no room for more files") as refused:
            api.files.create(file=b"x" * 700_000, purpose="batch")
        assert refused.value.status_code == 507
        assert api.files.delete(first.id).deleted
        assert api.files.create(file=b"x" * 700_000, purpose="batch").bytes == 700_000


def test_its_requests_count_for_the_limits_of_the_key(
    host: FakeHost, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmengine.server.limits.MINUTE", 1e9)  # nothing comes back
    monkeypatch.setattr("llmengine.server.batch_work.MAX_PAUSE_SECONDS", 0.01)
    keys = at.parent / "keys.json"
    secret, key = generated(requests_per_minute=4, tokens_per_minute=100_000)
    KeyFile(str(keys)).add(key)
    with serving(host, config(files_path=str(at), keys_file=str(keys))) as client:
        api = api_of(client, secret)
        batch = begun(api, "".join(line(f"r{n}", ask("hi")) for n in range(9)))  # two requests
        assert eventually(lambda: counted(api.batches.retrieve(batch.id)) == 2)
        left = api.batches.with_raw_response.retrieve(batch.id).headers
        assert left["x-ratelimit-remaining-requests"] == "0"
        assert int(left["x-ratelimit-remaining-tokens"]) < 100_000
        with pytest.raises(openai.RateLimitError):
            api.embeddings.create(model="fake", input="hi")
        assert counted(api.batches.retrieve(batch.id)) == 2


def test_a_key_at_its_limit_holds_up_no_other(
    host: FakeHost, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmengine.server.limits.MINUTE", 1e9)  # nothing comes back
    monkeypatch.setattr("llmengine.server.batch_work.MAX_PAUSE_SECONDS", 0.01)
    keys = KeyFile(str(at.parent / "keys.json"))
    (slow, one), (other, two) = generated(requests_per_minute=4), generated()
    keys.add(one)
    keys.add(two)
    with serving(host, config(files_path=str(at), keys_file=str(keys.path))) as client:
        held = begun(api_of(client, slow), "".join(line(f"r{n}", ask("hi")) for n in range(9)))
        first, second = (begun(api_of(client, other), line("a", ask("hi"))) for _ in range(2))
        assert [ended(api_of(client, other), each.id).status for each in (first, second)] == [
            "completed",
            "completed",
        ]
        assert api_of(client, slow).batches.retrieve(held.id).status == "in_progress"


def test_without_room_for_more_answers_those_that_are_there_are_kept(at: Path) -> None:
    settings = config(files_path=str(at), files_max_size_mb=1, batch_concurrency=1)
    with FakeHost("x" * 300_000, step=300_000) as host, serving(host, settings) as client:
        api = api_of(client)
        lines = line("wrong", {"messages": 1}) + "".join(line(f"r{n}", ask("")) for n in range(9))
        done = ended(api, begun(api, lines).id)
        assert done.status == "failed"
        assert done.errors is not None
        assert done.errors.data is not None
        assert "raise server.files_max_size_mb" in str(done.errors.data[0].message)
        assert list(results(api, done.output_file_id)) == ["r0", "r1", "r2"]
        assert list(results(api, done.error_file_id)) == ["wrong"]


def test_after_a_fault_of_the_disk_it_is_tried_again(
    api: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmengine.server.batch_work.FAULT_SECONDS", 0.01)
    faults = iter([OSError("the disk is full")] * 7)
    results_of = FilesStore.results

    def faulty(store: FilesStore, batch: str) -> dict[int, bytes]:
        if fault := next(faults, None):
            raise fault
        return results_of(store, batch)

    monkeypatch.setattr(FilesStore, "results", faulty)
    done = ended(api, begun(api, line("a", ask("hi"))).id)
    assert done.status == "completed"
    assert list(results(api, done.output_file_id)) == ["a"]
    assert next(faults, None) is None


@pytest.mark.parametrize("call", ["diskcache.Cache.set", "diskcache.Cache.__init__"])
@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device", "/secret/place"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_is_told_as_one(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, call: str, fault: Exception
) -> None:
    form = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}\n")}}

    def full(*_: object, **__: object) -> None:
        raise fault

    with monkeypatch.context() as disk:
        disk.setattr(call, full)
        answer = client.post("/v1/files", **form)  # type: ignore[arg-type]
        assert answer.status_code == 507
        assert answer.json()["error"] == {
            "message": "the server's disk is full: nothing is kept until there is room",
            "type": "server_error",
            "param": None,
            "code": "insufficient_resources",
        }
    assert client.post("/v1/files", **form).status_code == 200  # type: ignore[arg-type]


def test_they_can_be_turned_off(host: FakeHost, at: Path) -> None:
    with serving(host, config(files_path=str(at), files_max_size_mb=0)) as client:
        assert client.get("/v1/files").status_code == 501
        assert client.get("/v1/batches").status_code == 501
        assert not at.exists()


def test_two_servers_do_not_share_a_folder(host: FakeHost, at: Path) -> None:
    settings = config(files_path=str(at))
    with serving(host, settings) as client:
        assert client.get("/v1/files").status_code == 200
        with FakeHost() as other, serving(other, settings) as second:
            answer = second.get("/v1/files")
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                503,
                "model_unavailable",
            )
