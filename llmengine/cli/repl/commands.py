"""The slash commands: one table, from which dispatch, /help and completion follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from llmengine.cli import file, sampling_values
from llmengine.cli.answer import summary
from llmengine.errors import InvalidRequest
from llmengine.settings import values
from llmengine.settings.merge import nearest

if TYPE_CHECKING:
    from llmengine.cli.repl.loop import Repl

SWITCHES = {
    "think": "let the model think before it answers, where it can",
    "stats": "show speed and cached tokens after each answer",
}

_NOTHING = ('""', "''", "none")  # arguments that take back what was given before


class Command(Struct, frozen=True):
    name: str
    arguments: str
    help: str
    run: Callable[[Repl, str], None]
    takes: Literal["", "file", "setting"] = ""  # what its argument is completed from

    def obey(self, repl: Repl, argument: str) -> None:
        """Raises InvalidRequest for an argument where it takes none, and what else goes wrong."""
        if argument and not self.arguments:
            raise InvalidRequest(
                f"/{self.name} takes no argument; what begins with a space is a message"
            )
        self.run(repl, argument)


def find(name: str) -> Command:
    """The command of that name; InvalidRequest with the nearest one if there is none."""
    name = ALIASES.get(name, name)
    if name in COMMANDS:
        return COMMANDS[name]
    near = nearest(name, COMMANDS)
    hint = f"did you mean /{near}?" if near else "/help lists the commands"
    raise InvalidRequest(f"no such command: /{name}; {hint}")


def split(text: str) -> tuple[str, str] | None:
    """Name and argument, if `text` is a command; a path like /usr/bin is none."""
    if not text.startswith("/"):
        return None
    word, _, argument = text[1:].partition(" ")
    name, line_feed, more = word.partition("\n")
    if name != "?" and not name.isalpha():
        return None
    return name, (f"{more} {argument}" if line_feed else argument).strip()


def set_candidates(argument: str) -> dict[str, str]:
    """What may follow `/set ` and the words of `argument` before its last one, with its help."""
    key, space, _ = argument.partition(" ")
    if space:
        return {"on": "", "off": ""} if key in SWITCHES else {"default": ""}
    described = {key: each.description for key, each in sampling_values.OPTIONS.items()}
    return SWITCHES | described


def _help(repl: Repl, argument: str) -> None:
    usages = {f"/{each.name} {each.arguments}": each.help for each in COMMANDS.values()}
    width = max(map(len, usages))
    lines = [f"{usage:<{width}}  {help}" for usage, help in usages.items()]
    repl.say("\n".join([*lines, "", KEYS]))


def _clear(repl: Repl, argument: str) -> None:
    repl.conversation.clear()
    repl.say("The conversation is empty; system prompt and settings stay.")


def _system(repl: Repl, argument: str) -> None:
    if not argument:
        repl.say(repl.conversation.system or "There is no system prompt; /system TEXT sets one.")
    elif argument in _NOTHING:
        repl.conversation.system = ""
        repl.say("The system prompt is removed.")
    else:
        repl.conversation.system = argument
        repl.say("The system prompt is set.")


def _set(repl: Repl, argument: str) -> None:
    word, _, more = argument.partition(" ")
    key, _, begun = word.partition("=")  # as in a config file, or with a blank
    text = f"{begun} {more}".strip()
    if not key:
        repl.say(_settings(repl))
    elif key in SWITCHES:
        _switch(repl, key, text)
    elif not text:
        option = sampling_values.option(key)
        value = values.to_toml(getattr(repl.conversation.params, key))
        repl.say(f"{key} = {value}  {option.description} [{values.describe(option)}]")
    else:
        repl.say(f"{key} = {values.to_toml(repl.conversation.set(key, text))}")


def _switch(repl: Repl, key: str, text: str) -> None:
    owner = repl.conversation if key == "think" else repl
    if text:
        if text not in ("on", "off"):
            raise InvalidRequest(f"/set {key} takes on or off, not {text}")
        setattr(owner, key, text == "on")
    repl.say(f"{key} = {'on' if getattr(owner, key) else 'off'}  {SWITCHES[key]}")


def _settings(repl: Repl) -> str:
    params = repl.conversation.params
    shown = {"think": repl.conversation.think, "stats": repl.stats}
    lines = [f"  {key:<20}{'on' if on else 'off':<10}{SWITCHES[key]}" for key, on in shown.items()]
    for key, option in sampling_values.OPTIONS.items():
        mark = "*" if key in repl.conversation.settings else " "
        value = values.to_toml(getattr(params, key))
        lines.append(f"{mark} {key:<20}{value:<10}{option.description}")
    note = "* set here; /set KEY VALUE sets one, /set KEY default takes it back"
    return "\n".join([*lines, "", note])


def _save(repl: Repl, argument: str) -> None:
    path = Path(_named(argument, "save"))
    repl.conversation.save(path)
    repl.say(f"Saved {_turns(repl)} to {path}.")


def _load(repl: Repl, argument: str) -> None:
    path = file.typed(_named(argument, "load"))
    repl.conversation.load(path)
    repl.say(f"Loaded {_turns(repl)} from {path}.")


def _named(argument: str, name: str) -> str:
    if not argument:
        raise InvalidRequest(f"/{name} needs the name of a file")
    return argument


def _turns(repl: Repl) -> str:
    count = len(repl.conversation.messages) // 2
    return f"{count} turn{'' if count == 1 else 's'}"


def _attach(repl: Repl, argument: str) -> None:
    waiting = repl.conversation.attached
    if argument in _NOTHING:
        waiting.clear()
        repl.say("Nothing is attached any more.")
    elif argument:
        added = repl.conversation.attach(file.typed(argument))
        kind = "text" if isinstance(added.content, str) else added.content.kind
        repl.say(f"{added.name} ({kind}) goes with the next message.")
    elif waiting:
        names = ", ".join(each.name for each in waiting)
        repl.say(f'With the next message goes {names}; /attach "" leaves it out.')
    else:
        repl.say("Nothing is attached; /attach FILE adds an image, a recording or text.")


def _retry(repl: Repl, argument: str) -> None:
    repl.show(repl.conversation.retry())


def _undo(repl: Repl, argument: str) -> None:
    question = repl.conversation.undo()
    line = question.partition("\n")[0]
    repl.say(f"Taken back: {line[:60]}{'...' if line[:60] != question else ''}")


def _stats(repl: Repl, argument: str) -> None:
    answer = repl.conversation.answer
    lines = [f"Last answer: {summary(answer)}" if answer else "No answer yet."]
    if answer:
        used = answer.usage.prompt_tokens + answer.usage.completion_tokens
        lines.append(f"Context: {used} of {repl.info.max_sequence_length} tokens, {_turns(repl)}")
    stats = repl.host_stats()
    lines.append(
        f"Since the start: {stats.prompt_tokens} prompt tokens,"
        f" {stats.cache_hit_rate:.0%} of them cached; {stats.completion_tokens} generated"
    )
    repl.say("\n".join(lines))


def _exit(repl: Repl, argument: str) -> None:
    repl.done = True


COMMANDS = {
    command.name: command
    for command in (
        Command("help", "", "show this", _help),
        Command("clear", "", "forget the conversation", _clear),
        Command("system", "[TEXT]", 'show or set the system prompt; "" removes it', _system),
        Command("attach", "[FILE]", "send a file with the next message", _attach, "file"),
        Command("set", "[KEY [VALUE]]", "show or change settings", _set, "setting"),
        Command("save", "FILE", "save the conversation", _save, "file"),
        Command("load", "FILE", "go on with a saved conversation", _load, "file"),
        Command("retry", "", "ask the last question again", _retry),
        Command("undo", "", "take the last question and its answer back", _undo),
        Command("stats", "", "speed, cached tokens and context in use", _stats),
        Command("exit", "", "leave", _exit),
    )
}
ALIASES = {"?": "help", "quit": "exit", "bye": "exit", "q": "exit"}
KEYS = """\
Enter         send                     Ctrl-C   stop the answer, or drop the line
Alt-Enter     new line (also: \\ at the end, or a block in \"\"\")
Tab           complete a command       Ctrl-D   leave
Up, Ctrl-R    earlier messages         Ctrl-X Ctrl-E   write in $EDITOR"""
