#compdef rcdp
# Completion of rcdp for zsh, written by: rcdp completion zsh
# To use it, put this line into ~/.zshrc, after compinit: source <(rcdp completion zsh)

_rcdp_configuration() {
@PROFILES@
    _files -g '*.toml'
}

_rcdp_setting() {
    if compset -P '*='; then
        local key=${${IPREFIX%=}##*=}
        case $key in
@VALUES@
        esac
        return
    fi
@KEYS@
}

_rcdp() {
    local -a commands
    commands=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
@CASES@
    esac
}

if [[ $funcstack[1] == _rcdp ]]; then
    _rcdp "$@"
else
    compdef _rcdp rcdp
fi
