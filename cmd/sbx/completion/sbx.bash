# Completion of sbx for bash, with or without the package bash-completion:
#     eval "$(sbx completion bash)"

# _sbx_value_flag says whether a flag takes a value.
_sbx_value_flag() {
    case $1 in
    -C | --source | --state | --layer | --ro | --rw | --cow | --hide | --dev | --with | --env | --net | --net-allow | --publish | -p | --include | --pull | --join | --tmp-size | --max-processes) return 0 ;;
    esac
    return 1
}

# _sbx_reply offers words; _sbx_files and _sbx_dirs offer names of files.
_sbx_reply() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_sbx_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); }
_sbx_dirs() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); }

# _sbx_flag_value completes the value of a flag.
_sbx_flag_value() {
    case $1 in
    -C | --source | --state | --cow | --with) _sbx_dirs ;;
    --ro | --rw | --hide) _sbx_files ;;
    --dev) cur=${cur:-/dev/}; _sbx_files ;;
    --net) _sbx_reply 'internet none host' ;;
    --layer) _sbx_reply "$("${place[@]}" layers 2>/dev/null)" ;;
    --env) [[ $verb == plan && $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -v -- "$cur") ;;
    esac
}

# _sbx_command completes what follows at the word $1, as if it stood alone.
_sbx_command() {
    local loader
    for loader in _comp_command_offset _command_offset; do
        if declare -F "$loader" >/dev/null; then
            "$loader" "$1"
            return
        fi
    done
    if ((COMP_CWORD == $1)); then
        if [[ $cur == */* ]]; then _sbx_files; else mapfile -t COMPREPLY < <(compgen -c -- "$cur"); fi
        return
    fi
    local spec name command=${COMP_WORDS[$1]}
    spec=$(complete -p -- "${command##*/}" 2>/dev/null) || spec=$(complete -p -- "$command" 2>/dev/null)
    if [[ $spec =~ \ -F\ ([^ ]+)\  ]]; then
        name=${BASH_REMATCH[1]}
        local i
        # Cut the line where the command begins; bash has split it already.
        for ((i = 0; i < $1; i++)); do
            COMP_LINE=${COMP_LINE#*"${COMP_WORDS[i]}"}
            ((COMP_POINT -= ${#COMP_WORDS[i]}))
        done
        COMP_LINE=$command${COMP_LINE#*"$command"}
        COMP_POINT=${#COMP_LINE}
        COMP_WORDS=("${COMP_WORDS[@]:$1}")
        ((COMP_CWORD -= $1))
        "$name" "$command" "$cur" "${COMP_WORDS[COMP_CWORD - 1]}"
    elif [[ $spec =~ \ -W\ \'([^\']*)\' ]]; then
        _sbx_reply "${BASH_REMATCH[1]}"
    fi
    ((${#COMPREPLY[@]})) || _sbx_files
}

_sbx() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb='' flag='' i=1 word
    local place=("${COMP_WORDS[0]}" completion)
    local run='--rm --ro --rw --cow --hide --dev --with --env --net --net-allow --publish -p --root --allow-userns --tmp-size --max-processes'
    local where='-C --source --state --layer'
    COMPREPLY=()

    if ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then
        _sbx_reply 'run plan why path status diff pull drop reset layer export import gc ps stop log doctor completion help --'
        return
    fi
    case ${COMP_WORDS[1]} in
    run | plan | why | path | status | diff | pull | drop | reset | layer | export | import | gc | ps | stop | log | doctor | completion | help) verb=${COMP_WORDS[1]} i=2 ;;
    -*) verb=run ;;
    *) return ;;
    esac
    if [[ $verb == layer ]]; then
        if ((COMP_CWORD == 2)); then
            _sbx_reply 'list copy rm'
            return
        fi
        verb="layer ${COMP_WORDS[2]}" i=3
    fi

    # Pass over the flags. bash has split --net=host at the = and SRC:DST at
    # the colon; both parts are words of their own.
    for (( ; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -- || $word != -* ]]; then
            [[ $word == -- ]] && ((i++))
            case $verb in
            run | plan) _sbx_command "$i" ;;
            status | diff | pull | drop) _sbx_files ;;
            'layer copy' | 'layer rm') _sbx_reply "$("${place[@]}" layers 2>/dev/null)" ;;
            why) ;;
            esac
            return
        fi
        _sbx_value_flag "$word" || continue
        # sbx plan --env takes a value only if one follows.
        [[ $verb == plan && $word == --env && ${COMP_WORDS[i + 1]} == -* ]] && continue
        flag=$word
        ((i++))
        [[ ${COMP_WORDS[i]} == = ]] && ((i++))
        while ((i + 1 <= COMP_CWORD)) && [[ ${COMP_WORDS[i + 1]-} == [:=]* ]]; do
            ((i += 2))
        done
        if ((i >= COMP_CWORD)); then
            [[ $cur == [:=] ]] && cur=''
            _sbx_flag_value "$flag"
            return
        fi
        case $flag in
        -C | --source | --state) place+=("$flag" "${COMP_WORDS[i]/#\~\//$HOME/}") ;;
        esac
    done

    case $verb in
    run) word="$where $run --no-live --verbose --pull --join --" ;;
    plan) word="$where $run --seccomp --" ;;
    why) word="$where $run" ;;
    path) word=$where ;;
    status) word="$where --all --json --porcelain -z" ;;
    diff) word="$where --stat --name-only --binary --exit-code" ;;
    pull) word="$where --all --include --keep --dry-run --unsafe" ;;
    drop) word="$where --all --shadowed" ;;
    'layer list') word='-C --state --json' ;;
    'layer copy' | 'layer rm') word='-C --source --state' ;;
    export) word="$where --home" ;;
    import) word="$where --force" ;;
    gc) word='-C --state --yes' ;;
    ps) word='-C --state --json -v' ;;
    log) word='-C --state --json' ;;
    stop) word='-C --state --kill' ;;
    reset) word="$where --home --all --force" ;;
    doctor) word='-C --state --json' ;;
    *) word='' ;;
    esac
    if [[ $cur == -* ]]; then
        ((COMP_CWORD == 1)) && word+=' --help --version'
        _sbx_reply "$word"
        return
    fi
    case $verb in
    run | plan) _sbx_command "$COMP_CWORD" ;;
    why)
        _sbx_files
        [[ $cur == */* ]] || COMPREPLY+=($(compgen -v -- "$cur"))
        ;;
    path | status | diff | pull | drop) _sbx_files ;;
    'layer copy' | 'layer rm') _sbx_reply "$("${place[@]}" layers 2>/dev/null)" ;;
    completion) ((COMP_CWORD == 2)) && _sbx_reply 'bash zsh fish' ;;
    help) ((COMP_CWORD == 2)) && _sbx_reply 'run plan why path status diff pull drop reset layer export import gc ps stop log doctor completion help' ;;
    esac
}

complete -F _sbx sbx
