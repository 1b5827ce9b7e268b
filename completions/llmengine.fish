function __llmengine
    _TYPER_COMPLETE_ARGS=(commandline -cp) _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _LLMENGINE_COMPLETE=complete_fish llmengine 2>/dev/null
end
complete -c llmengine -f -n '__llmengine is-args' -a '(__llmengine get-args)'
