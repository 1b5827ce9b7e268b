#compdef llmengine
_llmengine() {
    local line="${words[1,$CURRENT]}"
    compset -P 1 '--*='  # of --model=NAME, what follows is completed
    eval "$(_TYPER_COMPLETE_ARGS="$line" \
        _LLMENGINE_COMPLETE=complete_zsh llmengine 2>/dev/null)"
}
# Called when zsh loads this file as the completion itself, else sourced.
if [[ $funcstack[1] == _llmengine ]]; then
    _llmengine "$@"
else
    compdef _llmengine llmengine
fi
