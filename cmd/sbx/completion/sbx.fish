# Completion of sbx for fish: in ~/.config/fish/config.fish
#     sbx completion fish | source

# __sbx_parse reads the command line up to the cursor. It prints the verb, and
# after it the words of the inner command if that has begun.
function __sbx_parse
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb run
    if set -q words[1]; and not string match -q -- '-*' $words[1]
        set verb $words[1]
        set -e words[1]
    else if not set -q words[1]
        set verb none
    end
    echo $verb
    if test $verb = layer; and set -q words[1]; and not string match -q -- '-*' $words[1]
        set -e words[1]
    end
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                echo --
                break
            case --env
                # sbx plan --env takes a value only if one follows.
                if test $verb != plan; or not string match -q -- '-*' $words[2]
                    set -e words[1]
                end
            case -C --source --state --layer --ro --rw --cow --hide --dev --with --net --net-allow --publish -p --include --pull --join --tmp-size --max-processes
                set -e words[1]
            case '-*'
            case '*'
                echo --
                break
        end
        set -e words[1]
    end
    string join \n -- $words
end

# __sbx_in says that a flag of one of the verbs may stand here.
function __sbx_in
    set -l parsed (__sbx_parse)
    not set -q parsed[2]; and contains -- $parsed[1] $argv
end

# __sbx_verb says that the verb is one of some, with or without arguments yet.
function __sbx_verb
    contains -- (__sbx_parse)[1] $argv
end

# __sbx_inner says that the inner command has begun, or may begin here.
function __sbx_inner
    set -l parsed (__sbx_parse)
    contains -- $parsed[1] run plan; or return 1
    set -q parsed[2]; or not string match -q -- '-*' (commandline -ct)
end

# __sbx_command completes the inner command as if it stood alone.
function __sbx_command
    set -l words (__sbx_parse)[3..]
    complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
end

function __sbx_layers
    set -l words (commandline -opc)
    set -l place
    for i in (seq 2 (count $words))
        if contains -- $words[$i] -C --source --state
            set -a place $words[$i] (string replace -r '^~/' "$HOME/" -- $words[(math $i + 1)])
        end
    end
    sbx completion $place layers 2>/dev/null
end

# __sbx_pair completes SRC[:DST].
function __sbx_pair
    set -l parts (string split -r -m1 : -- (commandline -ct | string replace -r '^--[a-z]+=' ''))
    if set -q parts[2]
        string join \n -- $parts[1]:(__fish_complete_path $parts[2])
    else
        __fish_complete_path $parts[1]
    end
end

set -l first run plan why path status diff pull drop reset layer export import gc ps stop log doctor completion help
complete -c sbx -f
complete -c sbx -n '__sbx_in none' -a run -d 'run a command in the sandbox'
complete -c sbx -n '__sbx_in none' -a plan -d 'print what a run would do'
complete -c sbx -n '__sbx_in none' -a why -d 'explain a path, a variable or a command'
complete -c sbx -n '__sbx_in none' -a path -d 'print where the layer has a file'
complete -c sbx -n '__sbx_in none' -a status -d 'print what the layer changes'
complete -c sbx -n '__sbx_in none' -a diff -d 'print the difference to the host'
complete -c sbx -n '__sbx_in none' -a pull -d 'bring changes to the host'
complete -c sbx -n '__sbx_in none' -a drop -d 'forget changes'
complete -c sbx -n '__sbx_in none' -a layer -d 'list, copy or delete layers'
complete -c sbx -n '__sbx_in none' -a export -d 'write the layer as an archive'
complete -c sbx -n '__sbx_in none' -a import -d 'make the layer from an archive'
complete -c sbx -n '__sbx_in none' -a gc -d 'delete what is of no use'
complete -c sbx -n '__sbx_in none' -a ps -d 'list the runs that live'
complete -c sbx -n '__sbx_in none' -a stop -d 'end a run'
complete -c sbx -n '__sbx_in none' -a log -d 'list the runs that have ended'
complete -c sbx -n '__sbx_in none' -a reset -d 'wipe the layer'
complete -c sbx -n '__sbx_in none' -a doctor -d 'try everything that a run needs'
complete -c sbx -n '__sbx_in none' -a completion -d 'print a script for a shell'
complete -c sbx -n '__sbx_in none' -a help -d 'print the usage'
complete -c sbx -n '__sbx_in none' -l help -d 'print the usage'
complete -c sbx -n '__sbx_in none' -l version -d 'print the version'

set -l place 'none run plan why path status diff pull drop export import reset'
set -l run 'none run plan why'
complete -c sbx -n "__sbx_in $place layer gc ps stop log doctor" -s C -x -a '(__fish_complete_directories)' -d 'run in DIR'
complete -c sbx -n "__sbx_in $place layer gc ps stop log doctor" -l state -x -a '(__fish_complete_directories)' -d 'keep the layers in DIR'
complete -c sbx -n "__sbx_in $place layer" -l source -x -a '(__fish_complete_directories)' -d 'the source tree'
complete -c sbx -n "__sbx_in $place" -l layer -x -a '(__sbx_layers)' -d 'use the layer NAME'
complete -c sbx -n "__sbx_in $run" -l rm -d 'use a layer of this run alone'
complete -c sbx -n "__sbx_in $run" -l ro -x -a '(__sbx_pair)' -d 'show read-only'
complete -c sbx -n "__sbx_in $run" -l rw -x -a '(__sbx_pair)' -d 'show; writes go to the host'
complete -c sbx -n "__sbx_in $run" -l cow -x -a '(__sbx_pair)' -d 'show; writes go to the layer'
complete -c sbx -n "__sbx_in $run" -l hide -r -F -d hide
complete -c sbx -n "__sbx_in $run" -l dev -r -F -d 'show a device'
complete -c sbx -n "__sbx_in $run" -l with -x -a '(__sbx_pair)' -d 'join a directory to the source tree'
complete -c sbx -n "__sbx_in $run" -l env -x -a '(set -nx)' -d 'pass a variable'
complete -c sbx -n "__sbx_in $run" -l net -x -a 'internet none host' -d 'the network'
complete -c sbx -n "__sbx_in $run" -l net-allow -x -d 'allow connections to a host'
complete -c sbx -n "__sbx_in $run" -s p -l publish -x -a 'auto' -d 'lead a port of the host inside'
complete -c sbx -n "__sbx_in $run" -l root -d 'be uid 0 inside'
complete -c sbx -n "__sbx_in $run" -l allow-userns -d 'allow user namespaces inside'
complete -c sbx -n "__sbx_in $run" -l tmp-size -x -d 'limit /tmp, /var, /run and /dev/shm'
complete -c sbx -n "__sbx_in $run" -l max-processes -x -d 'limit the processes'
complete -c sbx -n '__sbx_in plan' -l seccomp -d 'print the system call filter'
complete -c sbx -n '__sbx_in status' -l all -d 'list what is in new directories'
complete -c sbx -n '__sbx_in status' -l json -d 'print JSON'
complete -c sbx -n '__sbx_in status' -l porcelain -d 'print lines for programs'
complete -c sbx -n '__sbx_in status' -s z -d 'the same, ended by NUL'
complete -c sbx -n '__sbx_in diff' -l stat -d 'count the lines'
complete -c sbx -n '__sbx_in diff' -l name-only -d 'print the names'
complete -c sbx -n '__sbx_in diff' -l binary -d 'print binary files'
complete -c sbx -n '__sbx_in diff' -l exit-code -d 'end with 1 if there is a difference'
complete -c sbx -n '__sbx_in pull drop' -l all -d 'everything'
complete -c sbx -n '__sbx_in pull' -l include -x -d 'only what matches'
complete -c sbx -n '__sbx_in pull' -l keep -d 'the layer keeps its copies'
complete -c sbx -n '__sbx_in pull' -l dry-run -d 'print what would be pulled'
complete -c sbx -n '__sbx_in pull' -l unsafe -d 'pull what the guard refuses'
complete -c sbx -n '__sbx_in drop' -l shadowed -d 'what the host has changed since'
complete -c sbx -n '__sbx_in layer' -l json -d 'print JSON'
complete -c sbx -n '__sbx_in export' -l home -d 'the private home too'
complete -c sbx -n '__sbx_in import' -l force -d 'replace a layer that has files'
complete -c sbx -n '__sbx_in ps log' -l json -d 'print JSON'
complete -c sbx -n '__sbx_in stop' -l kill -d 'by SIGKILL, at once'
complete -c sbx -n '__sbx_in run' -l pull -x -d 'pull what matches afterwards'
complete -c sbx -n '__sbx_in run' -l no-live -d 'do not look for edits on the host'
complete -c sbx -n '__sbx_in run' -l verbose -d 'say at once what the network denies'
complete -c sbx -n '__sbx_in ps' -s v -d 'say what is done to show edits'
complete -c sbx -n '__sbx_in run' -l join -x -d 'enter the namespaces of a run'
complete -c sbx -n '__sbx_in reset' -l force -d 'end the runs first'
complete -c sbx -n '__sbx_in gc' -l yes -d 'delete layers of trees that are gone'
complete -c sbx -n '__sbx_in layer; and not string match -qr -- " layer +[a-z]+ " (commandline -cp)' -a 'list copy rm'
complete -c sbx -n 'string match -qr -- " layer +(copy|rm) " (commandline -cp)' -a '(__sbx_layers)'
complete -c sbx -n '__sbx_in reset' -l home -d "wipe the layer's home instead"
complete -c sbx -n '__sbx_in reset' -l all -d 'wipe both, and the layer'
complete -c sbx -n '__sbx_in doctor' -l json -d 'print the checks as JSON'
complete -c sbx -n '__sbx_in why path' -F
complete -c sbx -n '__sbx_verb status diff pull drop' -F
complete -c sbx -n '__sbx_in why' -a '(set -nx)' -d variable
complete -c sbx -n '__sbx_in completion' -a 'bash zsh fish'
complete -c sbx -n '__sbx_in help' -a "$first"
complete -c sbx -n __sbx_inner -a '(__sbx_command)'
