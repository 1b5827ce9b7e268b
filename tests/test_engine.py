"""The engine on the embedded model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from patience import PATIENCE
from real import MODEL, Result, chatml, config, request, run

from llmengine.core import Output, Request
from llmengine.engine.engine import Engine
from llmengine.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineError,
    EngineOverloaded,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    OutOfMemory,
)
from llmengine.sampling import SamplingParams

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(config(context_size=8192)) as engine:
        yield engine


def ignore(_: object) -> None:
    """A client that does not listen."""


def ask(engine: Engine, text: str, **params: object) -> Result:
    return run(engine, [request(engine, "a", text, **params)])["a"]


def test_it_answers_a_greeting(engine: Engine) -> None:
    result = ask(engine, chatml("Hello!"), temperature=0)
    assert result.reason == "stop"
    assert result.text.strip()
    assert "<|im_end|>" not in result.text


def test_pieces_joined_are_the_text_of_the_tokens(engine: Engine) -> None:
    result = ask(engine, chatml("Tell me a story about a fox."), temperature=0, logprobs=0)
    tokens = [each.token for each in result.logprobs if each.token not in engine._model.end_tokens]
    assert "".join(result.pieces) == engine.detokenize(tokens)


def test_equal_seeds_give_equal_text_and_others_do_not(engine: Engine) -> None:
    def sample(seed: int) -> str:
        params = {"temperature": 1.5, "top_k": 0, "min_p": 0.0, "top_p": 1.0, "seed": seed}
        return ask(engine, chatml("Tell me a story about a dog."), **params).text

    sample(1)  # from here on the prompt comes from the cache
    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) == 4


def test_logprobs_are_those_of_the_whole_distribution(engine: Engine) -> None:
    result = ask(engine, chatml("Hello!"), temperature=0, logprobs=20)
    for each in result.logprobs:
        assert each.top[0].token == each.token
        assert each.top[0].logprob == each.logprob <= 0
        values = [top.logprob for top in each.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 20


# What each parameter is tried with, and where it only shapes another one, that one with it.
EFFECTS: dict[str, list[dict[str, object]]] = {
    "temperature": [{}, {"temperature": 0.5}],
    "top_k": [{}, {"top_k": 2}],
    "top_p": [{}, {"top_p": 0.3}],
    "min_p": [{}, {"min_p": 0.5}],
    "typical_p": [{}, {"typical_p": 0.2}],
    "top_n_sigma": [{}, {"top_n_sigma": 0.5}],
    "xtc_probability": [{}, {"xtc_probability": 1.0}],
    "xtc_threshold": [{"xtc_probability": 1.0, "xtc_threshold": each} for each in (0.01, 0.4)],
    "dry_multiplier": [{}, {"dry_multiplier": 5.0, "dry_allowed_length": 0}],
    "dry_base": [
        {"dry_multiplier": 0.5, "dry_allowed_length": 0, "dry_base": each} for each in (1.1, 50.0)
    ],
    "dry_allowed_length": [
        {"dry_multiplier": 5.0, "dry_allowed_length": each} for each in (0, 100)
    ],
    "dry_penalty_last_n": [
        {"dry_multiplier": 5.0, "dry_allowed_length": 0, "dry_penalty_last_n": each}
        for each in (-1, 0)
    ],
    "repeat_penalty": [{}, {"repeat_penalty": 2.0}],
    "repeat_last_n": [{"repeat_penalty": 2.0, "repeat_last_n": each} for each in (-1, 1)],
    "presence_penalty": [{}, {"presence_penalty": 2.0}],
    "frequency_penalty": [{}, {"frequency_penalty": 2.0}],
    "mirostat": [{"mirostat": each} for each in (0, 1, 2)],
    "mirostat_tau": [{"mirostat": 2, "mirostat_tau": each} for each in (0.1, 9.0)],
    "mirostat_eta": [{"mirostat": 2, "mirostat_tau": 1.0, "mirostat_eta": e} for e in (0, 1.0)],
    "logit_bias": [{}, {"logit_bias": {15: 100.0}}],
    "seed": [{"seed": 1}, {"seed": 2}],
    "stop": [{}, {"stop": ("e",)}],
    "max_tokens": [{}, {"max_tokens": 3}],
    "ignore_eos": [{"max_tokens": 100, "ignore_eos": each} for each in (False, True)],
    "grammar": [{}, {"grammar": 'root ::= "yes" | "no"'}],
}
TRIED_ELSEWHERE = {"logprobs", "constraint", "thinking_tags", "thinking_budget"}


def test_every_parameter_changes_the_text() -> None:
    assert EFFECTS.keys() | TRIED_ELSEWHERE == set(SamplingParams.__struct_fields__)
    flat = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 7, "max_tokens": 40}
    story = chatml("Tell me a story about a fox.")
    # Otherwise texts might differ because sums are rounded differently in other company.
    with Engine(config(context_size=8192, deterministic=True)) as engine:
        requests = [
            request(engine, f"{name} {at}", story, **{**flat, **params})
            for name, varieties in {**EFFECTS, "nothing": [{}, {}]}.items()
            for at, params in enumerate(varieties)
        ]
        results = run(engine, requests)
    assert results["nothing 0"].text == results["nothing 1"].text
    for name, varieties in EFFECTS.items():
        texts = {results[f"{name} {at}"].text for at in range(len(varieties))}
        assert len(texts) == len(varieties), name


def test_a_bias_of_100_forces_a_token(engine: Engine) -> None:
    (token,) = engine.tokenize("!")
    result = ask(engine, chatml("Hi"), temperature=0, logit_bias={token: 100.0}, max_tokens=5)
    assert result.text == "!!!!!"


def test_ignore_eos_goes_on_to_max_tokens(engine: Engine) -> None:
    result = ask(engine, chatml("Hi"), temperature=0, ignore_eos=True, max_tokens=60)
    assert (result.reason, result.usage.completion_tokens) == ("length", 60)


def test_a_grammar_is_obeyed(engine: Engine) -> None:
    grammar = 'root ::= "yes" | "no, " [a-c]{3} "."'
    for seed in range(8):
        text = ask(engine, chatml("Hi"), grammar=grammar, temperature=2.0, seed=seed).text
        assert text == "yes" or (text.startswith("no, ") and text[4:7].strip("abc") == "")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_ends_the_answer_whatever_ignore_eos_says(
    engine: Engine, temperature: float
) -> None:
    result = ask(
        engine, chatml("Hi"), grammar='root ::= "yes"', ignore_eos=True, temperature=temperature
    )
    assert (result.text, result.reason) == ("yes", "stop")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"temperature": 1.0}, {"grammar": 'root ::= "yes"'}]
)
def test_logits_that_are_no_numbers_end_the_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, value: float, params: dict
) -> None:
    def broken(outputs: int) -> list[np.ndarray]:
        return [np.full(engine.info().vocabulary, value, np.float32)] * outputs

    with monkeypatch.context() as patch:
        patch.setattr(engine._context, "logits", broken)
        result = ask(engine, chatml("Hi"), **params)
    assert (result.text, result.reason) == ("", "error")
    assert ask(engine, chatml("Hi"), temperature=0).reason == "stop"


def test_a_repeat_penalty_sees_the_prompt(engine: Engine) -> None:
    prompt = chatml("Repeat: mango")
    plain = ask(engine, prompt, temperature=0, logprobs=0)
    held = ask(engine, prompt, temperature=0, repeat_penalty=50.0, logprobs=0)
    seen = set(engine.tokenize(prompt, special=True))
    assert {each.token for each in plain.logprobs} & seen
    assert held.logprobs[0].token not in seen


def test_stop_strings_cut_the_text(engine: Engine) -> None:
    prompt = chatml("Count from 1 to 9.")
    whole = ask(engine, prompt, temperature=0).text
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    result = ask(engine, prompt, temperature=0, stop=(middle,), logprobs=0)
    assert result.text == whole[: whole.find(middle)]
    assert result.last is not None
    assert result.last.stop == middle
    covered = b"".join(each.piece for each in result.logprobs).decode()
    assert covered.startswith(result.text)


def test_a_follow_up_turn_prefills_only_what_is_new(engine: Engine) -> None:
    first = ask(engine, chatml("My name is Zora."), temperature=0, max_tokens=100)
    assert first.reason == "stop"
    before = engine.stats().prefilled_tokens
    prompt = chatml("My name is Zora.", first.text, "What is my name?")
    second = request(engine, "b", prompt, temperature=0)
    result = run(engine, [second])["b"]
    old = len(engine.tokenize(chatml("My name is Zora.") + first.text, special=True))
    assert result.usage.cached_tokens == old
    assert engine.stats().prefilled_tokens - before == len(second.prompt) - old


def test_sixteen_requests_share_a_prefix(engine: Engine) -> None:
    line = "The value of key-a7 is plum-42. "
    common = tuple(engine.tokenize(line * 400))[:1200]
    requests = [
        Request(
            id=f"r{index}",
            prompt=common + tuple((index * 20 + place) % 400 + 50 for place in range(20)),
            params=SamplingParams(temperature=0, max_tokens=4),
        )
        for index in range(16)
    ]
    before = engine.stats().prefilled_tokens
    run(engine, requests)
    assert engine.stats().prefilled_tokens - before <= 1200 + 16 * 21


def test_too_long_a_prompt_is_refused_before_anything_is_computed(engine: Engine) -> None:
    steps = engine.stats().steps
    limit = engine.info().max_sequence_length
    for length in (limit, limit + 1, 100_000):
        tokens = (5,) * length
        with pytest.raises(ContextLengthExceeded, match=f"{limit} tokens"):
            engine.submit(Request(id="x", prompt=tokens, params=SamplingParams()), ignore)
    assert engine.stats().steps == steps
    assert ask(engine, chatml("Hi"), temperature=0).reason == "stop"


def test_generation_ends_at_the_context(engine: Engine) -> None:
    limit = engine.info().max_sequence_length
    almost = Request(
        id="a", prompt=(60,) * (limit - 3), params=SamplingParams(temperature=0, ignore_eos=True)
    )
    result = run(engine, [almost])["a"]
    assert (result.reason, result.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("prompt", [(), (-1,), (10**9,)])
def test_bad_tokens_are_refused(engine: Engine, prompt: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        engine.submit(Request(id="x", prompt=prompt, params=SamplingParams()), ignore)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": "other ::= [a]"}, "grammar"),
        ({"grammar": ""}, "grammar"),
        ({"grammar": 'root ::= "a\0b"'}, "grammar"),
        ({"grammar": "root ::= root"}, "grammar"),
        ({"grammar": "root ::= missing"}, "grammar"),
        ({"grammar": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000}, "grammar"),
        ({"grammar": 'root ::= "a"{5,2}'}, "grammar"),
        ({"grammar": "root ::= [a-z]{1,200000}"}, "grammar"),
        ({"grammar": 'root ::= "\ud800"'}, "grammar"),
        ({"logit_bias": {10**9: 1.0}}, "logit_bias"),
    ],
)
def test_bad_parameters_name_themselves(engine: Engine, params: dict, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(request(engine, "x", "hi", **params), ignore)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ud800x".encode("utf-8", "replace").decode(), "🧑🏽‍🚀" * 50]
)
def test_odd_text_tokenizes_and_comes_back(engine: Engine, text: str) -> None:
    assert engine.detokenize(engine.tokenize(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>",
        "a <|im_start|>user\n b<|im_end|>\n",
        " <|im_<|im_end|>|> ",
        "<|<|im_start|>x",
    ],
)
def test_cut_at_control_tokens_a_text_has_the_same_tokens(engine: Engine, text: str) -> None:
    tokenizer = engine._model._tokenizer
    data = (3 * text).encode()
    assert tokenizer.tokenize(3 * text, special=True, bos=True) == tokenizer._tokens(
        data, True, True
    )


def test_many_control_tokens_do_not_take_for_ever(engine: Engine) -> None:
    count = 50_000
    started = time.thread_time()
    assert len(set(engine.tokenize("<|im_start|>" * count, special=True))) == 1
    assert time.thread_time() - started < 10  # seconds; a search of the whole rest takes minutes


def test_a_lone_surrogate_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        engine.tokenize("a\ud800")


def test_cancel_ends_a_request_and_its_slot(engine: Engine) -> None:
    outputs: queue.SimpleQueue = queue.SimpleQueue()
    endless = request(engine, "x", chatml("Hi"), ignore_eos=True, max_tokens=None, temperature=0)
    engine.submit(endless, outputs.put)
    outputs.get(timeout=PATIENCE)
    engine.cancel("x")
    engine.cancel("unknown")
    last = [output for output in drain(outputs) if output.finish_reason]
    assert [output.finish_reason for output in last] == ["cancelled"]
    assert engine.stats().running == 0


def drain(outputs: queue.SimpleQueue) -> list:
    """All outputs up to the last one of a single request."""
    found = []
    while not (found and found[-1].finish_reason):
        found += outputs.get(timeout=PATIENCE)
    return found


def test_many_cancels_take_effect_in_one_step(engine: Engine) -> None:
    calls: list[list[str]] = []
    names = [f"many-{number}" for number in range(8)]
    told, done, ended = threading.Event(), threading.Event(), threading.Event()

    def sink(outputs: Sequence[Output]) -> None:
        calls.append([each.request_id for each in outputs if each.finish_reason == "cancelled"])
        if sum(map(len, calls)) == len(names):
            ended.set()
        told.set()
        done.wait(PATIENCE)

    for name in names:
        engine.submit(request(engine, name, "hi", ignore_eos=True, max_tokens=None), sink)
    assert told.wait(PATIENCE)
    for name in names:
        engine.cancel(name)
    done.set()
    assert ended.wait(PATIENCE)
    assert [len(call) for call in calls if call] == [8]


def test_cancel_stops_inside_a_long_prefill() -> None:
    options = {"context_size": 4096, "prefill_batch": 4096, "threads": 1}
    with Engine(config(**options)) as engine:  # type: ignore[arg-type]
        outputs: queue.SimpleQueue = queue.SimpleQueue()
        long = Request(id="x", prompt=(60,) * 4000, params=SamplingParams())
        engine.submit(long, outputs.put)
        while "x" not in engine._runner.in_step:
            time.sleep(0.001)
        engine.cancel("x")
        assert drain(outputs)[-1].finish_reason == "cancelled"
        assert engine.stats().prefilled_tokens == 0
        assert ask(engine, chatml("Hi"), temperature=0).reason == "stop"


def test_a_deadline_ends_a_request(engine: Engine) -> None:
    late = Request(
        id="x",
        prompt=tuple(engine.tokenize("hello")),
        params=SamplingParams(ignore_eos=True),
        deadline=time.monotonic() + 0.05,
    )
    last = run(engine, [late])["x"].last
    assert last is not None
    assert last.error is not None
    assert last.error.kind == "DeadlineExceeded"


def test_the_queue_is_bounded() -> None:
    options = config(context_size=1024, max_concurrent_requests=1, max_queue=2)
    with Engine(options) as engine:
        for index in range(3):
            engine.submit(request(engine, str(index), "hi", ignore_eos=True, max_tokens=None), list)
        with pytest.raises(EngineOverloaded):
            engine.submit(request(engine, "more", "hi"), list)


def test_a_running_id_is_refused(engine: Engine) -> None:
    engine.submit(request(engine, "same", "hi", ignore_eos=True, max_tokens=500), list)
    with pytest.raises(InvalidRequest, match="already running"):
        engine.submit(request(engine, "same", "hi"), list)
    engine.cancel("same")


def test_drain_waits_and_refuses() -> None:
    with Engine(config(context_size=1024)) as engine:
        outputs: queue.SimpleQueue = queue.SimpleQueue()
        engine.submit(request(engine, "a", "hi", ignore_eos=True, max_tokens=50), outputs.put)
        assert engine.drain(30)
        assert drain(outputs)[-1].finish_reason == "length"
        with pytest.raises(ModelUnavailable):
            engine.submit(request(engine, "b", "hi"), list)


def test_close_cancels_what_runs_and_may_be_called_again() -> None:
    engine = Engine(config(context_size=1024))
    outputs: queue.SimpleQueue = queue.SimpleQueue()
    engine.submit(request(engine, "a", "hi", ignore_eos=True, max_tokens=None), outputs.put)
    assert not engine.drain(0.05)
    engine.close()
    engine.close()
    assert drain(outputs)[-1].finish_reason == "cancelled"


def test_a_closed_engine_refuses_what_needs_the_model() -> None:
    engine = Engine(config(context_size=256))
    grammar = request(engine, "a", "x", grammar='root ::= "y"')
    engine.close()
    for late in (
        lambda: engine.tokenize("late"),
        lambda: engine.piece(1),
        lambda: engine.submit(grammar, ignore),
    ):
        with pytest.raises(ModelUnavailable):
            late()


def test_close_waits_for_whoever_uses_the_model() -> None:
    engine = Engine(config(context_size=256))
    closing = threading.Thread(target=engine.close)
    with engine._model.in_use():
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
    closing.join(PATIENCE)
    assert not closing.is_alive()


def test_the_thread_survives_a_step_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(config(context_size=256)) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine._scheduler, "commit", None)
            result = ask(engine, "hi")
        assert result.reason == "error"
        assert result.last is not None
        assert result.last.error is not None
        assert ask(engine, "hi").reason != "error"
        engine._slots.check()


def test_a_client_that_fails_harms_nobody(engine: Engine) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("gone")

    engine.submit(request(engine, "bad", chatml("Hi"), temperature=0), broken)
    assert ask(engine, chatml("Hi"), temperature=0).reason == "stop"


def test_many_threads_submit_and_cancel(engine: Engine) -> None:
    """Every request gets exactly one last output, whoever submits and cancels when."""
    last: queue.SimpleQueue = queue.SimpleQueue()

    def client(number: int) -> None:
        for turn in range(5):
            name = f"{number}-{turn}"
            engine.submit(
                request(engine, name, chatml(f"Count to {turn}"), max_tokens=8, seed=1),
                lambda outputs: [last.put(o) for o in outputs if o.finish_reason] and None,
            )
            if turn % 2:
                engine.cancel(name)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {last.get(timeout=60).request_id for _ in range(40)}
    assert len(names) == 40
    assert last.empty()
    assert engine.stats().running == engine.stats().waiting == 0


# Models and settings that cannot be used


def damaged(path: Path, kind: str) -> Path:
    data = MODEL.read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello, I am no model",
        "header": data[:100],
        "half": data[: len(data) // 2],
        "end": data[:-1000],
        "counts": b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16,
        "noise": b"GGUF" + bytes((i * 37) % 256 for i in range(5000)),
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "header", "half", "end", "counts", "noise"])
def test_a_damaged_model_is_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Engine(config(damaged(tmp_path / "bad.gguf", kind)))
    assert "bad.gguf" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_model_without_weights_is_one_line(tmp_path: Path) -> None:
    path = gguf_files.varied(MODEL, tmp_path / "vocab.gguf", {}, weights=False)
    with pytest.raises(EngineError) as caught:
        Engine(config(path))
    assert "\n" not in caught.value.message


def test_a_missing_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Engine(config(tmp_path / "none.gguf"))


@pytest.mark.parametrize("device", ["cuda", "metal", "rocm", "vulkan"])
def test_a_device_that_the_build_lacks_is_refused(device: str) -> None:
    from llmengine.llama.device import devices

    if devices():
        pytest.skip("this machine has a GPU build")
    with pytest.raises(ConfigError, match="doctor"):
        Engine(config(device=device))


def test_slots_that_are_kept_do_not_widen_a_deterministic_step() -> None:
    with Engine(config(deterministic=True, context_size=512, max_sequences=100)) as engine:
        assert engine._context.rows == 60


def test_a_context_that_no_memory_holds_is_one_line() -> None:
    with pytest.raises(OutOfMemory, match=r"insufficient memory .* lower model.context_size"):
        Engine(config(context_size=2**24, memory_check=False))


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="flash"):
        Engine(config(deterministic=True, flash_attention="off"))
    with pytest.raises(ConfigError, match="at most 60"):
        Engine(config(deterministic=True, max_concurrent_requests=64))
    with pytest.raises(ConfigError, match="context_size"):
        Engine(config(max_sequence_length=4096, context_size=1024))


def test_llama_cpp_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with Engine(config(context_size=512)) as engine:
        ask(engine, "hi", temperature=0)
        with pytest.raises(InvalidRequest, match="expected \\) in line 1"):
            ask(engine, "hi", grammar="root ::= (")
    assert capfd.readouterr() == ("", "")


def test_a_quantized_kv_cache_without_flash_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs flash attention: set model"):
        Engine(config(context_size=1024, kv_type="q8_0", flash_attention="off"))


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_quantized_kv_runs(kv_type: str) -> None:
    with Engine(config(context_size=1024, kv_type=kv_type)) as engine:
        assert ask(engine, chatml("Hello!"), temperature=0).reason in ("stop", "length")
