# Completion of rcdp for fish, written by: rcdp completion fish
# To use it, put this line into ~/.config/fish/config.fish: rcdp completion fish | source

# Whether a command of rcdp is the one that is typed.
function __rcdp_command
    set -l words (commandline -opc)
    test "$words[2]" = "$argv[1]"
end

function __rcdp_configurations
@PROFILES@
    __fish_complete_suffix .toml
end

# A key of the configuration with its =, or the values of a key.
function __rcdp_settings
    set -l typed (string replace -r '^--set=' '' -- (commandline -ct))
    set -l key (string replace -r '=.*' '' -- $typed)
    if not string match -q '*=*' -- $typed
@KEYS@
        return
    end
    switch $key
@VALUES@
            for path in (__fish_complete_path (string replace -r '^[^=]*=' '' -- $typed) | string replace -r '\t.*' '')
                echo $key=$path
            end
    end
end

complete -c rcdp -f
complete -c rcdp -n __fish_use_subcommand -l help -s h -d 'show the help'
complete -c rcdp -n __fish_use_subcommand -l version -d 'show the version'
@COMMANDS@
@ARGUMENTS@
