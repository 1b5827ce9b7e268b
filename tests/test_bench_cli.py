"""`llmengine bench` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import tomli
from fakes import FakeHost
from serving import serving

from llmengine.bench import local, own_server
from llmengine.bench.report import Machine, Report, Row, Spread, encode
from llmengine.cli import main
from llmengine.cli.bench_output import Output
from llmengine.config import Config
from llmengine.errors import InvalidRequest, ModelUnavailable
from llmengine.keys import KeyFile, generated
from llmengine.settings import load

QUICK = ["--shape", "tiny", "--prompt", "8", "--generate", "4", "--depth", "0", "-r", "2"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["bench", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.model
def test_a_shape_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = tmp_path / "a.json", tmp_path / "a.html"
    code, out, err = run(
        capsys, *QUICK, "--batch", "2", "--no-limits", "--save", str(files[0]), "--plot",
        str(files[1]),
    )  # fmt: skip
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == ["pp8 @ d0", "tg4 @ d0", "tg32 together @ B=2"]
    assert all(float(line[1]) > 0 for line in lines)
    assert "tiny:q8_0; llmengine" in err
    assert len(json.loads(files[0].read_text())["rows"]) == 3
    assert files[1].stat().st_size > 1_000_000


@pytest.mark.model
def test_json_and_csv_are_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *QUICK, "--batch", "", "--no-limits", "--json")
    report = json.loads(out)
    assert (report["kind"], report["target"]) == ("model", "tiny:q8_0")
    assert report["rows"][0]["figures"]["tokens_per_second"]["rounds"] == 2
    _, out, _ = run(capsys, *QUICK, "--batch", "", "--no-limits", "--csv")
    assert out.splitlines()[1].startswith("pp8 @ d0,tokens_per_second,")


def test_an_interrupted_run_reports_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: Config, plan: Any, found: local.Found, *_: Any, **more: Any) -> None:
        spread = Spread.of([1.0])
        found.rows.append(Row(group="pp8", load="d0", figures={"tokens_per_second": spread}))
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "measure", interrupted)
    code, out, _ = run(capsys, "--json")
    assert code == 130
    assert json.loads(out)["interrupted"] is True
    assert len(json.loads(out)["rows"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_what_was_measured_is_shown_where_it_cannot_be_saved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Machine(
        system="Linux", processor="CPU", cores=2, memory=1, llmengine="0", llama_cpp="0"
    )
    row = Row(group="pp512", load="d0", figures={"tokens_per_second": Spread.of([10.0])})
    report = Report(kind="model", target="m", started="now", machine=machine, rows=[row])
    with pytest.raises(InvalidRequest, match="cannot write /dev/full: No space left on device"):
        Output(csv=True, save=Path("/dev/full")).write(report)
    assert capsys.readouterr().out.splitlines()[1] == "pp512 @ d0,tokens_per_second,10,10,10,1"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--json", "--csv"], "--json and --csv exclude each other"),
        (["--shape", "tiny", "-m", "x"], "--model and --shape exclude each other"),
        (["--shape", "llama-9b"], "no shape is called 'llama-9b'"),
        (["--plot", "none/a.html"], "there is no folder for none/a.html"),
        (["--save", "."], ". is a folder; name a file in it"),
        (["--depth", "1,x"], "--depth '1,x' is no list of numbers"),
        (["serve", "--workload", "odd"], "no workload is called 'odd'; known are random,"),
        (["serve", "--rate", "fast"], "--rate 'fast' is no list of requests per second"),
        (["serve", "--body", "[1]"], "--body is no JSON object"),
        (["serve", "--goodput", "ttft:500", "itl:50"], "--goodput 'itl:50' is no objective"),
        (["serve", "--url", "localhost"], "must begin with http:// or https://"),
        (["serve", "--url", "http://x", "--shape", "tiny"], "--url and --shape exclude"),
        (["compare", "a.json", "b.json"], "cannot read a.json"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_use_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert problem in err
    assert err.count("\n") == 1


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "serve", "--url", "http://127.0.0.1:1")
    assert (code, out) == (3, "")
    where = "http://127.0.0.1:1/v1: Connect call failed ('127.0.0.1', 1)"
    assert err == f"error: no server answers at {where}\n"


def test_where_no_request_succeeds_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeHost() as host, serving(host) as client:
        asked = ["serve", "--url", str(client.base_url), "--clients", "1", "--requests", "1"]
        code, out, _ = run(capsys, *asked, "--input", "100", "--json")
        assert (code, json.loads(out)["rows"][0]["errors"]) == (0, {})
        code, out, _ = run(capsys, *asked, "--input", "100000", "--json")
    assert code == 1
    [(error, count)] = json.loads(out)["rows"][0]["errors"].items()
    assert "context" in error
    assert count == 1


@pytest.mark.model
def test_a_server_of_ours_is_started_and_measured(capsys: pytest.CaptureFixture[str]) -> None:
    KeyFile().add(generated()[1])  # the user's keys guard other servers
    code, out, err = run(
        capsys, "serve", "--workload", "random,json-schema,multi-turn", "--requests", "2",
        "--clients", "2", "--output", "6", "--turns", "2", "--goodput", "ttft:60000", "tpot:60000",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    rows = {row["group"]: row for row in json.loads(out)["rows"]}
    assert list(rows) == [
        "random", "json-schema", "multi-turn", "multi-turn, first turns", "multi-turn, later turns",
    ]  # fmt: skip

    def figure(group: str, name: str) -> float:
        return float(rows[group]["figures"][name]["median"])

    for group, requests in (("random", 2), ("multi-turn", 4), ("multi-turn, later turns", 2)):
        assert figure(group, "completed") == requests
        assert figure(group, "failed") == figure(group, "refused") == 0
        assert figure(group, "total_output_tokens") == 6 * requests
    assert figure("random", "request_goodput") == figure("random", "request_throughput")
    # 205 tokens were wanted of each; which words they are is chance, and not all are as long.
    assert figure("random", "total_input_tokens") == pytest.approx(2 * 205, rel=0.15)
    assert figure("multi-turn, later turns", "total_cached_tokens") > 2 * 140
    assert rows["random"]["errors"] == {}


def test_a_server_that_does_not_start_tells_why(tmp_path: Path) -> None:
    config = msgspec.convert({"model": {"model_path": str(tmp_path / "none.gguf")}}, Config)
    with (
        pytest.raises(ModelUnavailable, match=r"the server did not start: .*none\.gguf"),
        own_server.own_server(config),
    ):
        pass


@pytest.mark.model
def test_it_ends_with_the_process_that_started_it() -> None:
    others = set(psutil.Process().children())
    started: set[psutil.Process] = set()

    def be_terminated() -> None:
        with own_server.own_server(Config()):
            started.update(set(psutil.Process().children()) - others)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with pytest.raises(SystemExit, match="143"):
        be_terminated()
    assert started
    assert not any(each.is_running() for each in started)


def test_its_settings_are_those_that_were_given(tmp_path: Path) -> None:
    given = {"model": {"context_size": 1024}, "sampling": {"stop": ["a\nb"], "seed": 3}}
    config = msgspec.convert(given, Config)
    file = tmp_path / "config.toml"
    file.write_text(own_server.toml(config))
    assert "seed" in tomli.loads(file.read_text())["sampling"]
    assert load(path=file, environ={}).config == config


def test_two_reports_are_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    machine = Machine(
        system="Linux", processor="CPU", cores=2, memory=1, llmengine="0", llama_cpp="0"
    )
    for name, values in (("a", [10.0, 11.0]), ("b", [20.0, 22.0])):
        figures = {"tokens_per_second": Spread.of(values)}
        row = Row(group="pp512", load="d0", figures=figures)
        report = Report(kind="model", target="m", started="now", machine=machine, rows=[row])
        (tmp_path / f"{name}.json").write_text(encode(report))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    code, out, _ = run(capsys, "compare", *files)
    assert (code, out) == (0, "pp512 @ d0\ttokens_per_second\t10.500\t21.000\t2.000\tbetter\n")
    _, out, _ = run(capsys, "compare", "--json", *files)
    assert json.loads(out)[0]["mark"] == "better"
