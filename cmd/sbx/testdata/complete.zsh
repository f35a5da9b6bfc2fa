# zsh -f complete.zsh SCRIPT LINE prints what zsh offers for LINE, a word a line:
# in an interactive shell on a terminal of its own, where compadd, through which
# all completions go, prints the matches.
zmodload zsh/zpty || exit 3
zpty inner zsh -f -i
# Everything up to the mark is echo and prompts.
expect() {
    local text=''
    while zpty -r inner chunk 2>/dev/null; do
        text+=$chunk
        [[ $text == *$1* ]] && { print -r -- $text; return }
    done
    return 1
}
zpty -w inner "stty -echo -onlcr; PROMPT='' RPROMPT='' PROMPT_EOL_MARK=''; unsetopt zle_bracketed_paste; SCRIPT=${(q)1}; source ${(q)0:h}/inner.zsh"
expect MARK-READY >/dev/null || exit 4
zpty -n -w inner "$2"$'\t'
answer=$(expect MARK-END) || exit 5
print -r -- ${${answer#*MARK-BEGIN}%%MARK-END*} | tr -d '\r' | sed '/^$/d' | sort -u
zpty -d inner
