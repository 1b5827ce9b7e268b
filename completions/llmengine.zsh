#compdef llmengine
_llmengine() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \
        _LLMENGINE_COMPLETE=complete_zsh llmengine 2>/dev/null)"
}
compdef _llmengine llmengine
