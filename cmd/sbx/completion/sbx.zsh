#compdef sbx
# Completion of sbx for zsh: save it as _sbx in a directory of $fpath, or, after
# compinit:
#     eval "$(sbx completion zsh)"

# _sbx_pair completes SRC[:DST].
_sbx_pair() {
    compset -P '*:'
    _files "$@"
}

_sbx_layers() {
    local -a place names
    local flag
    for flag in -C --source --state; do
        (( ${+opt_args[$flag]} )) && place+=($flag ${(Q)${opt_args[$flag]/#\~\//$HOME/}})
    done
    names=(${(f)"$(_call_program layers sbx completion ${(q)place} layers 2>/dev/null)"})
    _describe -t layers layer names
}

_sbx_env() { _parameters -g '*export*' }

_sbx_why() {
    _alternative 'files:file:_files' 'parameters:variable:_sbx_env' 'commands:command:_command_names -e'
}

_sbx_verbs() {
    local -a verbs=(
        'run:run a command in the sandbox'
        'plan:print what a run would do'
        'why:explain a path, a variable or a command'
        'path:print where the layer has a file'
        'status:print what the layer changes'
        'diff:print the difference to the host'
        'pull:bring changes to the host'
        'drop:forget changes'
        'reset:wipe the layer'
        'layer:list, copy or delete layers'
        'export:write the layer as an archive'
        'import:make the layer from an archive'
        'gc:delete what is of no use'
        'ps:list the runs that live'
        'stop:end a run'
        'log:list the runs that have ended'
        'doctor:try everything that a run needs'
        'completion:print a script for a shell'
        'help:print the usage'
    )
    _describe -t verbs verb verbs
}

_sbx_layer() {
    if (( CURRENT == 2 )); then
        local -a actions=('list:list all layers' 'copy:copy a layer' 'rm:delete layers')
        _describe -t verbs verb actions
        return
    fi
    local word=$words[2]
    shift words
    (( CURRENT-- ))
    case $word in
    list) _arguments -S : $place[1] $place[3] '--json[print JSON]' ;;
    copy) _arguments -S : $place[1,3] '1:layer:_sbx_layers' '2:layer:_sbx_layers' ;;
    rm) _arguments -S : $place[1,3] '*:layer:_sbx_layers' ;;
    esac
}

_sbx() {
    local curcontext=$curcontext context state state_descr line
    local -A opt_args
    local -a place run
    place=(
        '-C[run in DIR]:directory:_files -/'
        '--source=[the source tree]:directory:_files -/'
        '--state=[keep the layers in DIR]:directory:_files -/'
        '--layer=[use the layer NAME]:layer:_sbx_layers'
    )
    run=(
        $place
        '--rm[use a layer of this run alone]'
        '*--ro=[show read-only]:path:_sbx_pair'
        '*--rw=[show; writes go to the host]:path:_sbx_pair'
        '*--cow=[show; writes go to the layer]:directory:_sbx_pair -/'
        '*--hide=[hide]:path:_files'
        '*--dev=[show a device]:device:_files -W /dev -P /dev/'
        '*--with=[join a directory to the source tree]:directory:_sbx_pair -/'
        '*--env=[pass a variable]:variable:_sbx_env'
        '--net=[the network]:network:(internet none host)'
        '*--net-allow=[allow connections to a host]:host:'
        '*'{-p,--publish=}'[lead a port of the host inside]:[ADDR\:]HOST\:SANDBOX:(auto)'
        '--root[be uid 0 inside]'
        '--allow-userns[allow user namespaces inside]'
        '--tmp-size=[limit /tmp, /var, /run and /dev/shm]:size:'
        '--max-processes=[limit the processes]:number:'
    )

    local verb=run
    if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
        _sbx_verbs
        return
    fi
    if (( CURRENT > 2 )) && [[ $words[2] == -- ]]; then
        # Without a flag before it, _arguments does not end the flags here.
        shift 2 words
        (( CURRENT -= 2 ))
        _normal
        return
    fi
    if [[ $words[2] != -* ]]; then
        verb=$words[2]
        shift words
        (( CURRENT-- ))
    elif (( CURRENT == 2 )); then
        run+=('(- : *)--help[print the usage]' '(- : *)--version[print the version]')
    fi
    curcontext=${curcontext%:*}-$verb:

    case $verb in
    run) _arguments -S : $run '--no-live[do not look for edits on the host]' '--verbose[say at once what the network denies]' '*--pull=[pull what matches afterwards]:glob:' '--join=[enter the namespaces of a run]:run:' '(-)1:command:_command_names -e' '*::arguments:_normal' ;;
    plan) _arguments -S : $run '--seccomp[print the system call filter]' '(-)1:command:_command_names -e' '*::arguments:_normal' ;;
    why) _arguments -S : $run '1:path or name:_sbx_why' ;;
    path) _arguments -S : $place '1:file:_files' ;;
    status) _arguments -S : $place '--all[list what is in new directories]' '--json[print JSON]' '--porcelain[print lines for programs]' '-z[the same, ended by NUL]' '*:file:_files' ;;
    diff) _arguments -S : $place '--stat[count the lines]' '--name-only[print the names]' '--binary[print binary files]' '--exit-code[end with 1 if there is a difference]' '*:file:_files' ;;
    pull) _arguments -S : $place '--all[deletions too]' '*--include=[only what matches]:glob:' '--keep[the layer keeps its copies]' '--dry-run[print what would be pulled]' '--unsafe[pull what the guard refuses]' '*:file:_files' ;;
    drop) _arguments -S : $place '--all[everything]' '--shadowed[what the host has changed since]' '*:file:_files' ;;
    layer) _sbx_layer ;;
    export) _arguments -S : $place '--home[the private home too]' ;;
    import) _arguments -S : $place '--force[replace a layer that has files]' ;;
    gc) _arguments -S : $place[1] $place[3] '--yes[delete layers of trees that are gone]' ;;
    ps) _arguments -S : $place[1] $place[3] '--json[print JSON]' '-v[say what is done to show edits]' ;;
    log) _arguments -S : $place[1] $place[3] '--json[print JSON]' ;;
    stop) _arguments -S : $place[1] $place[3] '--kill[by SIGKILL, at once]' ;;
    reset) _arguments -S : $place "--home[wipe the layer's home instead]" '--all[wipe both, and the layer]' '--force[end the runs first]' ;;
    doctor) _arguments -S : $place[1] $place[3] '--json[print the checks as JSON]' ;;
    completion) _arguments '1:shell:(bash zsh fish)' ;;
    help) _arguments '1:verb:_sbx_verbs' ;;
    esac
}

# Read from a file of $fpath this is the body of the function itself.
if [[ $funcstack[1] == _sbx ]]; then
    _sbx "$@"
else
    compdef _sbx sbx
fi
