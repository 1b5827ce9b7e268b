_llmengine() {
    local IFS=$'\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _LLMENGINE_COMPLETE=complete_bash "$1" 2>/dev/null))
}
complete -o default -F _llmengine llmengine
