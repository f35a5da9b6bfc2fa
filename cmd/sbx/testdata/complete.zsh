# zsh -f complete.zsh SCRIPT LINE... prints what zsh offers for each line: the line
# after "== ", and then a word a line. It asks an interactive shell on a terminal
# of its own, in which compadd, through which all completions go, prints the
# matches.
zmodload zsh/zpty || exit 3
script=$1
shift
zpty inner zsh -f -i

# expect reads up to a mark, past echo and prompts.
expect() {
    local text='' chunk
    while zpty -r inner chunk; do
        text+=$chunk
        [[ $text == *$1* ]] && { print -r -- $text; return }
    done
    return 1
}

zpty -w inner "stty -echo -onlcr; PROMPT='' RPROMPT='' PROMPT_EOL_MARK=''; unset zle_bracketed_paste; SCRIPT=${(q)script}; source ${(q)0:h}/inner.zsh"
expect MARK-READY >/dev/null || exit 4
for line; do
    print -r -- "== $line"
    zpty -n -w inner $line$'\t'
    answer=$(expect MARK-END) || exit 5
    print -r -- ${${answer#*MARK-BEGIN}%%MARK-END*} | tr -d '\r' | sed '/^$/d' | sort -u
    zpty -n -w inner $'\C-u'
done
zpty -d inner
