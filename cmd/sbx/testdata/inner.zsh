# Sourced in the interactive shell of complete.zsh.
autoload -Uz compinit
compinit -D -u
source $SCRIPT
zstyle ':completion:*' verbose no
zstyle ':completion:*' list-rows-first yes
LISTMAX=0
compadd() {
    # -O, -A and -D are calls that only ask for the matches.
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- $hits
    builtin compadd "$@"
}
mark() {
    print MARK-BEGIN
    zle complete-word
    print MARK-END
}
zle -N mark
bindkey '^I' mark
bindkey '^U' kill-buffer
print MARK-READ''Y
