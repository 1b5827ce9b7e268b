_llmengine() {
    local IFS=$'\n' word words=()
    # Bash makes a word of the "=" in --model=NAME.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
        [[ $word == = ]] || words+=("$word")
    done
    COMPREPLY=($(COMP_WORDS="${words[*]}"$'\n'"${COMP_WORDS[COMP_CWORD]}" \
        COMP_CWORD=${#words[@]} _LLMENGINE_COMPLETE=complete_bash "$1" 2>/dev/null))
    # A value follows the "=" at once.
    if [[ ${COMPREPLY-} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _llmengine llmengine
