"""`llmengine completion`: the script that makes a shell complete commands, flags and models."""

from __future__ import annotations

from typing import Annotated

import typer

from llmengine.errors import InvalidRequest

# Set by the scripts below; typer derives the same name from `llmengine` and then, instead of
# running the command, prints what may follow.
VARIABLE = "_LLMENGINE_COMPLETE"

_BASH = """\
_llmengine() {
    local IFS=$'\\n' word words=()
    # Bash makes a word of the "=" in --model=NAME.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
        [[ $word == = ]] || words+=("$word")
    done
    COMPREPLY=($(COMP_WORDS="${words[*]}"$'\\n'"${COMP_WORDS[COMP_CWORD]}" \\
        COMP_CWORD=${#words[@]} _LLMENGINE_COMPLETE=complete_bash "$1" 2>/dev/null))
    # A value follows the "=" at once.
    if [[ ${COMPREPLY-} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _llmengine llmengine"""

_ZSH = """\
#compdef llmengine
_llmengine() {
    local line="${words[1,$CURRENT]}"
    compset -P 1 '--*='  # of --model=NAME, what follows is completed
    eval "$(_TYPER_COMPLETE_ARGS="$line" \\
        _LLMENGINE_COMPLETE=complete_zsh llmengine 2>/dev/null)"
}
# Called when zsh loads this file as the completion itself, else sourced.
if [[ $funcstack[1] == _llmengine ]]; then
    _llmengine "$@"
else
    compdef _llmengine llmengine
fi"""

_FISH = """\
function __llmengine
    _TYPER_COMPLETE_ARGS=(commandline -cp) _TYPER_COMPLETE_FISH_ACTION=$argv[1] \\
        _LLMENGINE_COMPLETE=complete_fish llmengine 2>/dev/null
end
function __llmengine_words
    # Of --model=NAME, fish expects the flag before each value.
    set -l flag (commandline -ct | string match -r -- '^--[^=]+=')
    __llmengine get-args | string replace -r -- '^' "$flag"
end
complete -c llmengine -f -n '__llmengine is-args' -a '(__llmengine_words)'"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(
    shell: Annotated[
        str, typer.Argument(help="One of bash, zsh, fish.", autocompletion=lambda: list(SCRIPTS))
    ],
) -> None:
    """Print the completion script of a shell."""
    if shell not in SCRIPTS:
        raise InvalidRequest(f"no completion for {shell}; choose one of {', '.join(SCRIPTS)}")
    typer.echo(SCRIPTS[shell])
