"""A conversation without a terminal: turns, settings, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeHost

from llmengine.cli.answer import dropped
from llmengine.cli.attached import recognised
from llmengine.cli.client import Client
from llmengine.cli.repl.conversation import Conversation
from llmengine.cli.repl.transcript import Message
from llmengine.core import Media
from llmengine.errors import ContextLengthExceeded, ErrorInfo, InvalidRequest, OutOfMemory
from llmengine.sampling import SamplingParams


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost(lambda request: f"answer {len(request.prompt)}\n ") as host:
        yield host


@pytest.fixture
def talk(host: FakeHost) -> Conversation:
    return Conversation(Client(host), params=SamplingParams(temperature=0.7))


def say(talk: Conversation, text: str) -> str:
    return "".join(delta.content for delta in talk.ask(text))


def prompt(host: FakeHost, index: int) -> str:
    return bytes(token for token in host.requests[index].prompt if token < 256).decode()


def test_an_answer_is_kept_exactly_as_generated(talk):
    text = say(talk, "hi")
    assert text == "answer 53\n "
    assert talk.messages == [Message("user", "hi"), Message("assistant", "answer 53\n ")]


def test_the_next_prompt_extends_the_previous_one_and_its_answer(talk, host):
    talk.system = "Be kind."
    first = say(talk, "hi")
    say(talk, "and?")
    assert prompt(host, 1).startswith(prompt(host, 0) + first + "<|im_end|>\n")


def test_usage_and_speed_of_the_last_answer(talk):
    say(talk, "hi")
    assert talk.answer.usage.prompt_tokens == 53
    assert talk.answer.usage.completion_tokens == len("answer 53\n ")
    assert talk.answer.tokens_per_second == pytest.approx(11 / 0.003)
    assert talk.answer.ttft > 0


def test_undo_takes_back_one_turn(talk):
    say(talk, "one")
    before = list(talk.messages)
    say(talk, "two")
    assert talk.undo() == "two"
    assert talk.messages == before


def test_retry_asks_the_same_and_replaces_the_answer(talk, host):
    say(talk, "hi")
    host.answer = "better"
    assert "".join(delta.content for delta in talk.retry()) == "better"
    assert host.requests[0].prompt == host.requests[1].prompt
    assert talk.messages == [Message("user", "hi"), Message("assistant", "better")]


def test_a_failed_retry_keeps_the_old_answer(talk, host):
    say(talk, "hi")
    before = list(talk.messages)
    host.failure = ErrorInfo("OutOfMemory", "no room")
    with pytest.raises(OutOfMemory):
        list(talk.retry())
    assert talk.messages == before


@pytest.mark.parametrize("wish", ["undo", "retry"])
def test_there_is_nothing_to_take_back_at_first(talk, wish):
    with pytest.raises(InvalidRequest, match=f"nothing to {wish}: the conversation is empty"):
        getattr(talk, wish)()


def test_a_stopped_answer_is_kept_and_marked(talk, host):
    host.answer, host.delay = "a" * 1000, 0.002
    deltas = talk.ask("hi")
    assert next(deltas).content == "aaaa"
    talk.stop()
    rest = "".join(delta.content for delta in deltas)
    assert talk.messages[1] == Message("assistant", "aaaa" + rest, stopped=True)
    assert len(rest) < 996
    assert host.cancelled == [host.requests[0].id]
    assert host.running == 0


def test_an_answer_stopped_before_its_first_text_leaves_nothing(talk, host):
    host.hold()
    deltas = talk.ask("hi")
    assert not next(deltas)  # time passes
    talk.stop()
    assert "".join(delta.content for delta in deltas) == ""
    assert talk.messages == []


def test_leaving_an_answer_cancels_it(talk, host):
    host.answer, host.delay = "a" * 1000, 0.002
    deltas = talk.ask("hi")
    next(deltas)
    deltas.close()
    assert host.cancelled == [host.requests[0].id]
    assert talk.messages == []


def test_what_does_not_fit_leaves_the_conversation_intact(talk):
    say(talk, "hi")
    before = list(talk.messages)
    with pytest.raises(ContextLengthExceeded):
        say(talk, "x" * 5000)
    assert talk.messages == before


def test_an_error_in_the_middle_leaves_the_conversation_intact(talk, host):
    host.failure = ErrorInfo("OutOfMemory", "no room")
    with pytest.raises(OutOfMemory, match="no room"):
        say(talk, "hi")
    assert talk.messages == []


def test_thinking_is_asked_for_and_kept_apart(talk, host):
    talk.think = True
    host.answer = "Let me see.</think>\n\nFour."
    deltas = list(talk.ask("2+2?"))
    assert "".join(delta.reasoning for delta in deltas) == "Let me see."
    assert prompt(host, 0).endswith("<think>\n")
    assert talk.messages[1] == Message("assistant", "Four.", "Let me see.")


def test_settings_reach_the_next_request_and_can_be_taken_back(talk, host):
    assert talk.set("temperature", "0.1") == 0.1
    assert talk.set("stop", "END") == ("END",)
    say(talk, "hi")
    expected = SamplingParams(temperature=0.1, stop=("END",), thinking_tags=("<think>", "</think>"))
    assert host.requests[0].params == expected
    assert talk.set("temperature", "default") == 0.7
    assert talk.settings == {"stop": ("END",)}


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("temperature", "hot", 'temperature must be a number from 0 to 100, not "hot"'),
        ("topk", "1", "no such sampling parameter: topk; did you mean top_k?"),
        ("topk", "default", "no such sampling parameter: topk; did you mean top_k?"),
    ],
)
def test_a_wrong_setting_changes_nothing(talk, key, text, message):
    with pytest.raises(InvalidRequest) as caught:
        talk.set(key, text)
    assert caught.value.message == message
    assert talk.settings == {}


def test_save_and_load_round_trip(talk, host):
    talk.system = "Be kind."
    talk.think = True
    talk.set("stop", "a,b")
    talk.set("logit_bias", '{"7": 1.5}')
    host.answer = "Hm.</think>Grüße 🎉\n\n"
    say(talk, "hi")
    talk.save(Path("talk.json"))
    other = Conversation(Client(host), params=SamplingParams())
    other.load(Path("talk.json"))
    assert other.messages == talk.messages
    assert other.messages[1] == Message("assistant", "Grüße 🎉\n\n", "Hm.")
    assert (other.system, other.think) == ("Be kind.", True)
    assert other.settings == {"stop": ("a", "b"), "logit_bias": {7: 1.5}}
    assert other.params == SamplingParams(stop=("a", "b"), logit_bias={7: 1.5})


def test_a_saved_conversation_is_private_and_replaced_whole(talk):
    say(talk, "one")
    talk.save(Path("talk.json"))
    say(talk, "two")
    talk.save(Path("talk.json"))
    assert Path("talk.json").stat().st_mode & 0o777 == 0o600
    saved = json.loads(Path("talk.json").read_text())
    assert [message["content"] for message in saved["messages"]][::2] == ["one", "two"]
    assert [path.name for path in Path().iterdir()] == ["talk.json"]


def test_saving_never_replaces_another_file(talk):
    Path("notes.txt").write_text("precious")
    with pytest.raises(InvalidRequest, match="is not a saved conversation; choose another name"):
        talk.save(Path("notes.txt"))
    assert Path("notes.txt").read_text() == "precious"


def test_saving_where_nothing_can_be_written_is_one_line(talk):
    with pytest.raises(InvalidRequest, match=r"cannot write .*/no/talk.json: No such file"):
        talk.save(Path("no/talk.json"))


HEAD = '{"format": "llmengine-conversation", "version": 1'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "talk.json is not a saved conversation: Input data was truncated"),
        (b"\xff\xfe", "talk.json is not a saved conversation: JSON is malformed"),
        (b"[1]", "talk.json is not a saved conversation: Expected `object`, got `array`"),
        (b"[" * 100_000, "talk.json is not a saved conversation: "),
        (b'{"format": "x"}', "talk.json is not a saved conversation: Invalid enum value 'x'"),
        (b'{"messages": []}', "talk.json is not a saved conversation: Object missing required"),
        (HEAD.replace("1", "2").encode() + b"}", "Invalid enum value 2 - at `$.version`"),
        (f'{HEAD}, "messages": [{{"role": "user", "content": "x"}}]}}'.encode(), "take turns"),
        (f'{HEAD}, "settings": {{"temperature": -1}}}}'.encode(),
         "talk.json: settings: temperature must be a number from 0 to 100, not -1"),
        (f'{HEAD}, "settings": {{"x": {"[" * 99999}'.encode(), "is not a saved conversation: "),
        (f'{HEAD}, "settings": {{"heat": 1}}}}'.encode(), "no such sampling parameter: heat"),
    ],
)  # fmt: skip
def test_a_corrupt_file_changes_nothing(talk, text, message):
    say(talk, "hi")
    before = list(talk.messages), talk.system, talk.settings
    Path("talk.json").write_bytes(text)
    with pytest.raises(InvalidRequest) as caught:
        talk.load(Path("talk.json"))
    assert message in caught.value.message
    assert (talk.messages, talk.system, talk.settings) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.json", "cannot read nope.json: No such file or directory"),
        (".", "cannot read .: Is a directory"),
        ("a\0b", "cannot read a\0b: "),
        ("~nobody-here/x", "cannot read ~nobody-here/x: Could not determine home directory."),
        ("/dev/zero", "/dev/zero is not a saved conversation: larger than any"),
    ],
)
def test_what_cannot_be_read_is_one_line(talk, name, message):
    with pytest.raises(InvalidRequest) as caught:
        talk.load(Path(name))
    assert caught.value.message.startswith(message)


@pytest.mark.model
def test_a_turn_computes_only_what_is_new():
    from llmengine.config import Config
    from llmengine.engine.engine import Engine

    with Engine(Config()) as engine:
        talk = Conversation(Client(engine), params=SamplingParams(temperature=0))
        say(talk, "Hi, my name is Ada.")
        first = talk.answer.usage
        assert first.cached_tokens == 0
        say(talk, "What is my name?")
        # The last token of an answer is sampled, but nothing was computed after it.
        assert talk.answer.usage.cached_tokens == first.prompt_tokens + first.completion_tokens - 1


def test_a_conversation_may_go_on_without_its_oldest_turns() -> None:
    with FakeHost(context=300) as host:
        client = Client(host, policy="truncate_left")
        talk = Conversation(client, params=SamplingParams())
        told = []
        for index in range(4):
            list(talk.ask(f"question {index} ".ljust(60, ".")))
            assert talk.answer is not None
            told.append(dropped(talk.answer))
        assert told[0] == ""
        assert told[3] == "(the context is full: the oldest 6 messages were dropped)"
        assert len(talk.messages) == 8  # they are only hidden from the model


PNG = b"\x89PNG\r\n\x1a\n\0"


def test_text_that_is_attached_comes_before_the_question_it_goes_with(talk, host, tmp_path):
    (tmp_path / "notes.md").write_text("Foxes are red.\n", encoding="utf-8-sig")
    talk.attach(tmp_path / "notes.md")
    say(talk, "What are foxes?")
    asked = "notes.md:\n\nFoxes are red.\n\n\nWhat are foxes?"
    assert talk.messages[0] == Message("user", asked)
    assert f"{asked}<|im_end|>" in prompt(host, 0)
    say(talk, "And?")
    assert talk.messages[2] == Message("user", "And?")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"RIFF\0\0\0\0WEBP", "image"),
        (b"RIFF\0\0\0\0WAVE", "audio"),
        (b"ID3\4\0", "audio"),
        (b"BMW is no bitmap", None),
    ],
)
def test_files_are_told_apart_by_what_is_in_them(tmp_path, data, kind):
    (tmp_path / "file").write_bytes(data)
    found = recognised(tmp_path / "file")
    assert found == (data.decode() if kind is None else Media(kind, data))


@pytest.mark.parametrize("data", [b"RIFF\0\0\0\0AVI ", b"a\0b", b"\xe9t\xe9"])
def test_other_files_are_refused(talk, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InvalidRequest, match="is no text in UTF-8, no image and no recording"):
        talk.attach(tmp_path / "file")
    with pytest.raises(InvalidRequest, match=r"cannot read .*: No such file"):
        talk.attach(tmp_path / "missing")
    assert talk.attached == []


def test_images_need_a_model_that_takes_them(talk, tmp_path):
    (tmp_path / "fox.png").write_bytes(PNG)
    with pytest.raises(InvalidRequest, match="takes no images: start it with --mmproj"):
        talk.attach(tmp_path / "fox.png")


def test_images_are_part_of_their_message_also_when_it_was_saved(tmp_path):
    with FakeHost(media=("image",)) as host:
        see_and_save(host, tmp_path)


def see_and_save(host, tmp_path):
    talk = Conversation(Client(host), params=SamplingParams())
    (tmp_path / "fox.png").write_bytes(PNG)
    talk.attach(tmp_path / "fox.png")
    say(talk, "What is it?")
    assert talk.messages[0] == Message("user", "What is it?", files=(Media("image", PNG),))
    assert [each.data for each in host.requests[0].media] == [PNG]
    talk.save(tmp_path / "saved.json")
    other = Conversation(Client(host), params=SamplingParams())
    other.load(tmp_path / "saved.json")
    assert other.messages == talk.messages
    say(other, "And now?")
    assert [each.data for each in host.requests[1].media] == [PNG]


def test_what_is_attached_stays_until_it_is_answered(talk, host, tmp_path):
    (tmp_path / "notes.md").write_text("Foxes are red.", encoding="utf-8")
    talk.attach(tmp_path / "notes.md")
    host.failure = ErrorInfo("OutOfMemory", "no room")
    with pytest.raises(OutOfMemory):
        say(talk, "What are foxes?")
    assert [each.name for each in talk.attached] == ["notes.md"]
    talk.clear()
    assert talk.attached == []
