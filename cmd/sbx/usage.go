package main

import (
	"fmt"
	"strings"
)

// The usage is written by hand and compared with the flags in a test. Its parts
// are what `sbx help VERB` chooses from.
const usage = synopsis + "\n" + placeUsage + "\n" + runUsage + "\n" + planUsage + "\n" + statusUsage + "\n" + diffUsage + "\n" + resetUsage + "\n" + doctorUsage + `
A flag takes its value as --flag VALUE or --flag=VALUE. Flags end at the first
word that is none, or at "--"; what follows is COMMAND's. Without a verb the
command line begins with a flag or with "--", and means run.

` + runProse + "\n" + planProse + "\n" + whyProse + "\n" + pathProse + "\n" + statusVerbProse + "\n" + diffProse + "\n" + resetProse + "\n" + doctorProse + "\n" + completionProse + "\n" +
	rulesProse + "\n" + layersProse + "\n" + guardProse + "\n" + networkProse + "\n" + environmentProse + "\n" + statusProse + "\n" + filesProse + "\n" + examples

const synopsis = `Usage:
    sbx [run] [FLAG...] -- COMMAND [ARG...]
    sbx plan [FLAG...] [--env | --seccomp] [-- COMMAND [ARG...]]
    sbx why [FLAG...] PATH | NAME
    sbx path [PLACE...] [FILE]
    sbx status [PLACE...] [--all] [--json | --porcelain | -z] [PATH...]
    sbx diff [PLACE...] [--stat | --name-only] [--exit-code] [PATH...]
    sbx reset [PLACE...] [--home | --all]
    sbx doctor [-C DIR] [--state DIR] [--json]
    sbx completion bash | zsh | fish
    sbx help [VERB]
    sbx --version
`

const placeUsage = `Place (PLACE, and part of FLAG):
    -C DIR               Run in DIR instead of the working directory.
    --source DIR         The source tree is DIR.
    --state DIR          Keep the layers in DIR.
    --layer NAME         Use the layer NAME. Default: "default", and "root" with
                         --root.
`

const runUsage = `Flags of run, plan and why (FLAG):
    --rm                 Use a layer of this run alone, and delete it.
    --ro SRC[:DST]       Show a file or directory of the host, read-only.
    --rw SRC[:DST]       The same, and writes go to the host.
    --cow SRC[:DST]      Show a directory; writes go to the layer.
    --hide PATH          Put an empty file or directory in the place of PATH.
    --dev PATH           Show one more device of /dev.
    --with DIR[:DST]     Join DIR to the source tree, in the same layer.
    --env NAME           Pass the variable NAME of the caller's environment, or
                         all that match a pattern as 'MW_*', or set NAME=VALUE.
    --net none|host      The network. Default: none.
    --root               Be uid 0 inside, without a privilege outside.
    --allow-userns       Allow user namespaces inside.
    --tmp-size SIZE      Limit /tmp, /var, /run and /dev/shm, together, to SIZE
                         bytes, or K, M, G, T. Default: half of the memory.
    --max-processes N    Limit the processes inside to N.
`

const planUsage = `Flags of plan:
    --env                Without a value: list the command's environment, and
                         what is kept from it, with the reasons.
    --seccomp            Print the system call filter.
`

const statusUsage = `Flags of status:
    --all                List what is in new directories, too.
    --json               Print JSON.
    --porcelain          Print lines for programs, of a form that stays.
    -z                   The same, with a NUL in place of each line end, and
                         with names as they are.
`

const diffUsage = `Flags of diff:
    --stat               Print how many lines of each file differ.
    --name-only          Print the names alone.
    --exit-code          End with 1 if there is a difference.
`

const resetUsage = `Flags of reset:
    --home               Wipe the layer's private home instead of its files.
    --all                Wipe both, and the layer itself.
`

const doctorUsage = `Flags of doctor:
    --json               Print the checks as JSON.
`

const runProse = `sbx run runs COMMAND in a sandbox. The source tree is at its own path, and what
the command writes there goes into a layer: the host's files never change, and
the next run sees what the last one wrote. The system's programs are read-only.
Nothing of $HOME is there but toolchains (read-only) and the caches of build
tools (copy-on-write); the home inside is private, and kept with the layer.
/tmp, /var and /run are empty at the start of each run.

The source tree is --source, else $SBX_SOURCE, else the nearest directory above
that has version control, else the nearest that has layers, else the working
directory. It is never /, $HOME or a directory above $HOME.
`

const planProse = `sbx plan prints what sbx run would do for the same command line, a step in each
line, and does nothing.
`

const whyProse = `sbx why says what becomes of a path, of a variable or of a command: which rule
shows, hides or drops it, and the flag that would change it.
`

const pathProse = `sbx path prints where the layer has its version of FILE, for example to move a
generated file out: mv "$(sbx path FILE)" . while no run lives. Without FILE it
prints the directory that holds them all.
`

const statusVerbProse = `sbx status prints what the layer changes, a path in each line: A added, M
modified, D deleted, T of another type, P of other permissions. A file that
equals the host's is no change, whatever its time. A new directory is one line.
"!" marks what the guard refuses to bring to the host, and "shadowed" what has
been edited on the host since the layer took its own version, which the sandbox
still sees. PATH restricts it to files and directories.

With --porcelain a line has, each followed by a blank: the letter; "!" or ".";
"s" for shadowed or "."; "." being neither, both in one word; the type, one of f
d l p s c b as find(1) has them, of the layer's file or of the deleted one; the
number of entries in a new directory; the bytes of the file or of the files in
the directory; and the path, relative to the source tree or absolute in a joined
directory, with a slash behind a directory, quoted as git does unless -z.
`

const diffProse = `sbx diff prints the difference from the host to the layer as git-diff(1) does;
git apply takes it, but for binary files, which are only named. On a terminal it
has colours (NO_COLOR), goes through $PAGER, else less, and shows control
characters escaped.
`

const resetProse = `sbx reset wipes what runs have written to the source tree and other
copy-on-write directories, at once. The private home stays, unless --home or
--all is given. It refuses while a run uses the layer.
`

const doctorProse = `sbx doctor tries everything that a run needs, and says how to get what is
missing. Its exit status is 0 only if sbx -- true works.
`

const completionProse = `sbx completion prints a script for the shell. In ~/.bashrc, in ~/.zshrc after
compinit, and in ~/.config/fish/config.fish:
    eval "$(sbx completion bash)"
    eval "$(sbx completion zsh)"
    sbx completion fish | source
`

const rulesProse = `Rules. --ro, --rw, --cow, --hide and --dev may be repeated, and are added to the
built-in rules. Of two the one with the longer path inside wins below that path;
of two for one path the last on the command line. SRC is a path of the host, DST
one inside; without DST both are the same. "\:" is a colon that belongs to a
path, and "~/" is $HOME. A path to hide that ends in "/" is a directory even
where nothing is there yet. What a rule shows may hold secrets or sockets: sbx
warns where it knows that it does.
`

const layersProse = `Layers. Each source tree has layers, and each layer its own version of the
files, of the caches and of the home. --layer NAME makes a layer on first use;
NAME has letters, digits and . _ + - @. One layer serves one run at a time.
`

const networkProse = `Network. With --net none there is nothing but a loopback of the sandbox's own.
--net host is the network of the host, with the services on its localhost.
`

const environmentProse = `Environment. Variables that hold settings of compilers and build tools pass to
the command; all others are dropped (sbx plan --env lists both). The value in
--env NAME=VALUE can be seen by others on the host while sbx runs; --env NAME
cannot. sbx itself reads
    SBX_SOURCE           the source tree, as --source
    SBX_STATE            the state directory, as --state
and sets inside
    SBX                  1
    SBX_RUN              the name of the run
    SBX_TREE             the path of the source tree
    SBX_LAYER            the name of the layer
`

const statusProse = `Exit status. run ends as the command did:
    0 to 255             the command's own status
    a signal             that ended the command ends sbx, too: 128+n in a shell
    127                  the command was not found
    126                  it was found and cannot be executed
    125                  sbx has understood, and it is not possible
    2                    sbx has not understood the command line
The other verbs end with 0, with 1 (doctor: something is missing; diff
--exit-code: there is a difference), 125 or 2.
`

const filesProse = `Files:
    ~/.local/state/sbx/  the state: $SBX_STATE, else $XDG_STATE_HOME/sbx
      trees/NAME-HASH/layers/LAYER/upper    what was written in the source tree
      trees/NAME-HASH/layers/LAYER/home     the private home
    /etc/subuid, /etc/subgid                ids for --root, subuid(5)
`

const examples = `Examples:
    sbx -- make -j4
    sbx --net host -- npm ci
    sbx --with ../lib -- go build ./...
    sbx --hide .env --ro ~/.config/tool -- make test
    sbx why ~/.ssh
    alias composer='sbx --net host -- composer'
`

// parts are what `sbx help VERB` prints below the synopsis of the verb.
var parts = map[string][]string{
	"run":        {runProse, placeUsage, runUsage, rulesProse, layersProse, networkProse, environmentProse, statusProse},
	"plan":       {planProse, planUsage, placeUsage, runUsage},
	"why":        {whyProse, placeUsage, runUsage},
	"path":       {pathProse, placeUsage},
	"status":     {statusVerbProse, statusUsage, placeUsage, guardProse},
	"diff":       {diffProse, diffUsage, placeUsage},
	"reset":      {resetProse, resetUsage, placeUsage, layersProse},
	"doctor":     {doctorProse, doctorUsage},
	"completion": {completionProse},
	"help":       {"sbx help prints all there is to know, or what concerns one verb.\n"},
}

// printHelp prints the usage, or the part of it for one verb, on stdout: it was
// asked for.
func printHelp(verb string) error {
	text, err := help(verb)
	if err == nil {
		_, err = fmt.Print(text)
	}
	return err
}

func help(verb string) (string, error) {
	if verb == "" {
		return usage, nil
	}
	if verb == "guard" {
		return guardHelp(), nil
	}
	list, ok := parts[verb]
	if !ok {
		if near := nearest(verb, verbs); near != "" {
			return "", usagef("sbx help "+near, "cannot help with %q: there is no such verb; the nearest is %q", verb, near)
		}
		return "", usagef("sbx help", "cannot help with %q: there is no such verb", verb)
	}
	text := "Usage:\n"
	for line := range strings.Lines(synopsis) {
		if words := strings.Fields(line); len(words) > 1 && strings.Trim(words[1], "[]") == verb {
			text += line
		}
	}
	return text + "\n" + strings.Join(list, "\n"), nil
}
