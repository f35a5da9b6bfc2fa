package main

import (
	"fmt"
	"strings"
)

// The usage is written by hand and compared with the flags in a test. Its parts
// are what `sbx help VERB` chooses from.
const usage = synopsis + "\n" + placeUsage + "\n" + runUsage + "\n" + runOnlyUsage + "\n" + planUsage + "\n" + statusUsage + "\n" + diffUsage + "\n" + pullUsage + "\n" + dropUsage + "\n" +
	resetUsage + "\n" + layerUsage + "\n" + archiveUsage + "\n" + doctorUsage + `
A flag takes its value as --flag VALUE or --flag=VALUE. Flags end at the first
word that is none, or at "--"; what follows is COMMAND's. Without a verb the
command line begins with a flag or with "--", and means run.

` + runProse + "\n" + planProse + "\n" + whyProse + "\n" + pathProse + "\n" + statusVerbProse + "\n" + diffProse + "\n" + pullProse + "\n" + dropProse + "\n" + resetProse + "\n" + layerProse + "\n" + archiveProse + "\n" + gcProse + "\n" + runsProse + "\n" + doctorProse + "\n" + completionProse + "\n" +
	rulesProse + "\n" + layersProse + "\n" + liveProse + "\n" + guardProse + "\n" + networkProse + "\n" + environmentProse + "\n" + statusProse + "\n" + filesProse + "\n" + examples

const synopsis = `Usage:
    sbx [run] [FLAG...] -- COMMAND [ARG...]
    sbx plan [FLAG...] [--env | --seccomp] [-- COMMAND [ARG...]]
    sbx why [FLAG...] PATH | NAME | HOST
    sbx path [PLACE...] [FILE]
    sbx status [PLACE...] [--all] [--json | --porcelain | -z] [PATH...]
    sbx diff [PLACE...] [--stat|--name-only|--binary] [--exit-code] [PATH...]
    sbx pull [PLACE...] [--keep] [--dry-run] [--include GLOB] [--unsafe] PATH...
    sbx pull [PLACE...] [--keep] [--dry-run] [--include GLOB] --all [PATH...]
    sbx drop [PLACE...] PATH... | --shadowed [PATH...] | --all [PATH...]
    sbx reset [PLACE...] [--home | --all] [--force]
    sbx layer list [-C DIR] [--state DIR] [--json]
    sbx layer copy [-C DIR] [--source DIR] [--state DIR] FROM TO
    sbx layer rm [-C DIR] [--source DIR] [--state DIR] NAME...
    sbx export [PLACE...] [--home] >FILE
    sbx import [PLACE...] [--force] <FILE
    sbx gc [-C DIR] [--state DIR] [--yes]
    sbx ps [-v] [-C DIR] [--state DIR] [--json]
    sbx stop [-C DIR] [--state DIR] [--kill] RUN... | last
    sbx log [-C DIR] [--state DIR] [--json] [RUN | last]
    sbx doctor [-C DIR] [--state DIR] [--json]
    sbx completion bash | zsh | fish
    sbx help [VERB]
    sbx --version
`

const placeUsage = `Place (PLACE, and part of FLAG):
    -C DIR               Run in DIR instead of the working directory.
    --source DIR         The source tree is DIR.
    --state DIR          Keep the layers in DIR.
    --layer NAME         Use the layer NAME. Default: "default", and "root" for
                         runs with --root.
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
    --net internet|none|host
                         The network. Default: internet.
    --net-allow HOST     Allow connections to HOST, too: NAME[:PORT], *.SUFFIX,
                         an address or CIDR, or localhost:PORT.
    -p, --publish [ADDR:]HOST:SANDBOX
                         Lead the host's port HOST to the port SANDBOX inside.
                         One port means both; "auto" means all that servers
                         inside listen at.
    --root               Be uid 0 inside, without a privilege outside.
    --allow-userns       Allow user namespaces inside.
    --tmp-size SIZE      Limit /tmp, /var, /run and /dev/shm, together, to SIZE
                         bytes, or K, M, G, T. Default: half of the memory.
    --max-processes N    Limit the processes inside to N.
`

const runOnlyUsage = `Flags of run alone:
    --verbose            Say at once what the network denies, not at the end.
    --pull GLOB          When the command has succeeded, pull what matches, as
                         sbx pull GLOB does. May be repeated.
    --no-live            Do not look for what is edited on the host while the
                         command runs.
    --join RUN           Enter all namespaces of a run (see sbx ps; or "last"),
                         with no more rights than it has, and end with it.
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
    --binary             Print what is in binary files, too, for git apply.
    --exit-code          End with 1 if there is a difference.
`

const pullUsage = `Flags of pull:
    --all                Pull everything, deletions too; with PATH, all of that.
    --include GLOB       Pull of it only what matches. May be repeated. A GLOB
                         without a slash is of the last name.
    --keep               Let the layer keep its copies as its own.
    --dry-run            Print what would be pulled.
    --unsafe             Pull what is named, although the guard refuses it or
                         the host's version has changed too; all (. or *) is
                         no name.
`

const dropUsage = `Flags of drop:
    --all                Drop everything; with PATH, all of that.
    --shadowed           Drop what has been edited on the host since.
`

const layerUsage = `Flags of layer and gc:
    --json               List the layers as JSON.
    --yes                Delete the layers of source trees that are gone.
`

const archiveUsage = `Flags of export and import:
    --home               Export the layer's private home, too.
    --force              Import in the place of a layer that has files.
`

const resetUsage = `Flags of reset:
    --home               Wipe the layer's private home instead of its files.
    --all                Wipe both, and the layer itself.
    --force              End the runs that have the layer first.
`

const doctorUsage = `Flags of doctor:
    --json               Print the checks as JSON.
`

const runProse = `sbx run runs COMMAND in a sandbox. The source tree is at its own path, and what
the command writes there goes into a layer: the host's files never change, and
the next run sees what the last one wrote. The system's programs are read-only.
Nothing of $HOME is there but toolchains (read-only) and the caches of build
tools (copy-on-write); the home inside is private, and kept with the layer.
The configuration of npm, pnpm, yarn, pip, uv, go, cargo, git, maven and
composer appears in it with credentials removed, so that they use the same
registries (sbx why ~/.npmrc); what a command makes of it there stays. /tmp,
/var and /run are empty at the start of each run.

The source tree is --source, else $SBX_SOURCE, else the nearest directory above
that has version control, else the nearest that has layers, else the working
directory. It is never /, $HOME or a directory above $HOME.
`

const planProse = `sbx plan prints what sbx run would do for the same command line, a step in each
line, and does nothing.
`

const whyProse = `sbx why says what becomes of a path, of a variable, of a command or of a host:
which rule shows, hides, drops or denies it, and the flag that would change it.
`

const pathProse = `sbx path prints where the layer has its version of FILE, for example to move a
generated file out: mv "$(sbx path FILE)" . while no run lives; sbx pull does it
at any time, and looks at what comes. Without FILE it prints the directory that
holds them all.
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

const diffProse = `sbx diff prints the difference from the host to the layer as git-diff(1) does,
and git apply takes it; binary files are only named unless --binary is given. On
a terminal it has colours (NO_COLOR), goes through $PAGER, else less, and shows
control characters escaped.
`

const pullProse = `sbx pull brings what the layer has changed to the host; then both agree, and the
layer needs its copies no more. PATH is a file, a directory or, quoted, a glob:
"**" is any number of directories. Each file is replaced in one step, with its
time and its executable bit; set-user-ID bits, devices, fifos and sockets never
come. What the layer deletes is deleted on the host only if it was named by its
own path, or with --all. Of a file that the host has changed since the layer
took its own, the host's stays. While a run lives the layer keeps its copies
until it ends. The exit status is 1 if something was refused.
`

const dropProse = `sbx drop makes the layer forget its version of files and directories: the
host's show again.
`

const layerProse = `sbx layer list lists all layers with their sizes and the time of their last use.
sbx layer copy makes a copy, as before a step that may go wrong; sbx layer rm
deletes layers, their homes included.
`

const archiveProse = `sbx export writes the layer as an archive, sbx import makes a layer from one. It
is an OCI image layer, tar with zstd: what the layer has in the source tree, a
file .wh.NAME for a NAME that is deleted, and .wh..wh..opq in a directory that
hides the host's. Joined directories and the home are below .sbx-layer; the
former count when a run joins them. Nothing in an archive is trusted, and a
layer is imported whole or not at all.
`

const gcProse = `sbx gc deletes what is of no use any more: what killed runs and imports have
left, the trash, and, with --yes, the layers of source trees that are gone.
`

const resetProse = `sbx reset wipes what runs have written to the source tree and other
copy-on-write directories, at once. The private home stays, unless --home or
--all is given. While runs have the layer it refuses; --force ends them first.
`

const runsProse = `sbx ps lists the runs that live, sbx log those that have ended. sbx stop ends
a run: by SIGTERM and, where that has not helped for ten seconds, by SIGKILL
(--kill: at once). RUN is the name of a run, or the begin of it.
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
NAME has letters, digits and . _ + - @. Any number of runs may have a layer at
the same time: they see each other's writes at once. What one of them hides in
the tree is hidden from all.
`

const liveProse = `Live. While a run lives, what is saved on the host is seen inside at once, where
the layer has no version of its own. What a process holds open stays as it was
until it lets go: sbx ps -v lists that. --no-live switches it off.
`

const networkProse = `Network. With --net internet, the default, the command reaches the public
internet. It does not reach the host's localhost, other addresses of the host,
its network, private addresses, and the metadata services of clouds. With --net
none there is nothing but a loopback of the sandbox's own. --net host is the
network of the host, with the services on its localhost.

--net-allow adds to that, and may be repeated: --net none --net-allow NAME is a
list of what is allowed. NAME may have private addresses, but not the host's
own; *.SUFFIX is every name below SUFFIX; localhost:PORT is a port of the host's
localhost, inside at localhost:PORT. Where not all of the internet is allowed,
no other name is looked up, and TLS must be for the name that was allowed. What
was denied is said at the end, with the flag that would allow it; sbx log RUN
lists what was reached, and sbx why NAME explains.

A proxy in $HTTPS_PROXY, $HTTP_PROXY or $ALL_PROXY, apart from $NO_PROXY, is
used by sbx; the command knows nothing of it.
`

const environmentProse = `Environment. Variables that hold settings of compilers and build tools pass to
the command; all others are dropped (sbx plan --env lists both). Those that name
registries (GOPROXY, npm_config_registry, PIP_INDEX_URL, CARGO_REGISTRIES_*)
pass without user names and passwords. The value in --env NAME=VALUE can be seen
by others on the host while sbx runs; --env NAME cannot. sbx itself reads
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
--exit-code: there is a difference; pull, drop: something was left out), 125 or
2.
`

const filesProse = `Files:
    ~/.local/state/sbx/  the state: $SBX_STATE, else $XDG_STATE_HOME/sbx
      trees/NAME-HASH/layers/LAYER/upper    what was written in the source tree
      trees/NAME-HASH/layers/LAYER/home     the private home
      runs/RUN.json                         what is left of a run, for sbx log
    /etc/subuid, /etc/subgid                ids for --root, subuid(5)
`

const examples = `Examples:
    sbx -- make -j4
    sbx -- npm ci
    sbx --net none --net-allow registry.example.com -- npm ci
    sbx -p 5173 -- npm run dev
    sbx --with ../lib -- go build ./...
    sbx --hide .env --ro ~/.config/tool -- make test
    sbx why ~/.ssh
    sbx pull package.json package-lock.json
    sbx run --pull 'package*.json' -- npm install lodash
    sbx run --join last -- gdb -p 12
    sbx pull 'vendor/**/*.php'
    sbx export | ssh HOST sbx import -C DIR
    alias composer='sbx -- composer'
`

// parts are what `sbx help VERB` prints below the synopsis of the verb.
var parts = map[string][]string{
	"run":        {runProse, placeUsage, runUsage, runOnlyUsage, rulesProse, layersProse, liveProse, networkProse, environmentProse, statusProse},
	"plan":       {planProse, planUsage, placeUsage, runUsage, networkProse},
	"why":        {whyProse, placeUsage, runUsage},
	"path":       {pathProse, placeUsage},
	"status":     {statusVerbProse, statusUsage, placeUsage, guardProse},
	"diff":       {diffProse, diffUsage, placeUsage},
	"pull":       {pullProse, pullUsage, placeUsage, guardProse},
	"drop":       {dropProse, dropUsage, placeUsage},
	"layer":      {layerProse, layerUsage},
	"export":     {archiveProse, archiveUsage, placeUsage},
	"import":     {archiveProse, archiveUsage, placeUsage},
	"gc":         {gcProse, layerUsage},
	"ps":         {runsProse, liveProse},
	"stop":       {runsProse},
	"log":        {runsProse},
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
