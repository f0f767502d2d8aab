# Completion of rcdp for bash, written by: rcdp completion bash
# To use it, put this line into ~/.bashrc: source <(rcdp completion bash)

@COMMANDS@
@PROFILES@
@KEYS@

# The options of a command.
_rcdp_options() {
    case $1 in
@OPTIONS@
    esac
}

# What an option of a command takes: COMMAND OPTION.
_rcdp_takes() {
    case "$1 $2" in
@TAKES@
    esac
}

# What the positional arguments of a command are.
_rcdp_positional() {
    case $1 in
@POSITIONAL@
    esac
}

# The values of a key of the configuration, or "file" for a path.
_rcdp_values() {
    case $1 in
@VALUES@
    esac
}

# Offer those of the words that begin with what is typed.
_rcdp_offer() {
    local word
    for word in $2; do
        [[ $word == "$1"* ]] && COMPREPLY+=("$word")
    done
}

# Offer files or folders: TYPED [OPTION OF COMPGEN ...].
_rcdp_files() {
    local typed=$1 found
    shift
    compopt -o filenames 2>/dev/null
    while IFS= read -r found; do COMPREPLY+=("$found"); done < <(compgen "$@" -- "$typed")
}

# Offer a key of the configuration with its =, or the values of a key.
_rcdp_setting() {
    local key=${1%%=*} values
    if [[ $1 != *=* ]]; then
        compopt -o nospace 2>/dev/null
        _rcdp_offer "$1" "$_rcdp_keys"
        return
    fi
    values=$(_rcdp_values "$key")
    if [[ $values == file ]]; then
        _rcdp_files "${1#*=}" -f
        COMPREPLY=("${COMPREPLY[@]/#/$key=}")
    else
        _rcdp_offer "${1#*=}" "$values"
        COMPREPLY=("${COMPREPLY[@]/#/$key=}")
    fi
}

# Offer what a value of some kind may be: TYPED KIND.
_rcdp_value() {
    local values
    case $2 in
        file) _rcdp_files "$1" -f ;;
        folder) _rcdp_files "$1" -d ;;
        configuration)
            _rcdp_offer "$1" "$_rcdp_profiles"
            _rcdp_files "$1" -f -X '!*.toml'
            _rcdp_files "$1" -d
            ;;
        setting) _rcdp_setting "$1" ;;
        word:*) values=${2#word:}; _rcdp_offer "$1" "${values//:/ }" ;;
    esac
}

_rcdp() {
    # The words up to the cursor, split at blanks: bash's own words are split at = as well.
    local line=${COMP_LINE:0:COMP_POINT} typed='' command before kind word skip='' at=0
    local -a words positional
    read -ra words <<<"$line"
    if [[ $line != *[[:space:]] ]]; then
        typed=${words[-1]}
        unset 'words[-1]'
    fi
    COMPREPLY=()
    command=${words[1]:-}
    if [[ -z $command ]]; then
        _rcdp_offer "$typed" "$_rcdp_commands --help --version"
        return
    fi
    before=${words[-1]}
    kind=$(_rcdp_takes "$command" "$before")
    if [[ -n $kind ]]; then
        _rcdp_value "$typed" "$kind"
    elif [[ $typed == --*=* ]]; then
        _rcdp_value "${typed#*=}" "$(_rcdp_takes "$command" "${typed%%=*}")"
        COMPREPLY=("${COMPREPLY[@]/#/${typed%%=*}=}")
    elif [[ $typed == -* ]]; then
        _rcdp_offer "$typed" "$(_rcdp_options "$command")"
    else
        for word in "${words[@]:2}"; do
            if [[ -n $skip ]]; then
                skip=''
            elif [[ $word == -* ]]; then
                [[ $word != *=* && -n $(_rcdp_takes "$command" "$word") ]] && skip=yes
            else
                at=$((at + 1))
            fi
        done
        read -ra positional <<<"$(_rcdp_positional "$command")"
        _rcdp_value "$typed" "${positional[at]:-nothing}"
    fi
    # Bash replaces what follows the last = or : of the word.
    if [[ $typed == *[=:]* && $COMP_WORDBREAKS == *=* ]]; then
        before=${typed%"${typed##*[=:]}"}
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
}

complete -F _rcdp rcdp
