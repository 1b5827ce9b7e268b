function __llmengine
    _TYPER_COMPLETE_ARGS=(commandline -cp) _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _LLMENGINE_COMPLETE=complete_fish llmengine 2>/dev/null
end
function __llmengine_words
    # Of --model=NAME, fish expects the flag before each value.
    set -l flag (commandline -ct | string match -r -- '^--[^=]+=')
    __llmengine get-args | string replace -r -- '^' "$flag"
end
complete -c llmengine -f -n '__llmengine is-args' -a '(__llmengine_words)'
