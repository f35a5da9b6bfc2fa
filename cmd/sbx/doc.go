// Sbx runs a software build in a rootless sandbox.
//
// # Synopsis
//
//	sbx [run] [FLAG...] -- COMMAND [ARG...]
//	sbx plan [FLAG...] [--env | --seccomp] [-- COMMAND [ARG...]]
//	sbx why [FLAG...] PATH | NAME
//	sbx path [PLACE...] [FILE]
//	sbx status [PLACE...] [--all] [--json | --porcelain | -z] [PATH...]
//	sbx diff [PLACE...] [--stat | --name-only | --binary] [--exit-code] [PATH...]
//	sbx pull [PLACE...] [FLAG...] PATH... | --all [PATH...]
//	sbx drop [PLACE...] PATH... | --shadowed | --all
//	sbx reset [PLACE...] [--home | --all] [--force]
//	sbx layer list | copy FROM TO | rm NAME...
//	sbx export [PLACE...] [--home] >FILE
//	sbx import [PLACE...] [--force] <FILE
//	sbx gc [--yes]
//	sbx ps [--json]
//	sbx stop [--kill] RUN...
//	sbx log [--json] [RUN]
//	sbx doctor [-C DIR] [--state DIR] [--json]
//	sbx completion bash | zsh | fish
//	sbx help [VERB]
//	sbx --version
//
// # Description
//
// Sbx runs COMMAND in new user, mount, pid, ipc, uts, cgroup and network
// namespaces (namespaces(7)), without privileges, a daemon or an image. The
// command sees
//
//   - the source tree, at its own path and copy-on-write: what is written goes
//     into a layer that the next run finds again, and the host's files never
//     change;
//   - the programs of the system, read-only;
//   - of $HOME nothing but toolchains, read-only, and the caches of build
//     tools, copy-on-write. The home itself is private, and kept with the layer;
//     in it is the configuration of build tools, with credentials removed;
//   - an /etc with users, host name and resolver of its own, and without keys
//     and passwords;
//   - its own /proc, /sys, /dev, /tmp, /var and /run, and no network but
//     loopback.
//
// It has no capabilities and cannot get any, and a system call filter
// (seccomp(2)) refuses what a build does not need.
//
// A command follows "--". A first word that is no verb is an error, so that a
// verb of a later version never changes what a command line means; after "run"
// the "--" may be left out. The flags are listed by
//
//	sbx --help
//
// and what concerns one verb by sbx help VERB.
//
// # Rules
//
// The flags --ro, --rw, --cow, --hide and --dev add to the built-in rules. Of two
// rules the one with the longer path inside wins below that path; of two for one
// path the last on the command line. SRC[:DST] shows SRC of the host at DST; a
// colon in a path is written "\:". Which rule decides over a path is said by
// sbx why PATH, and all that a run would do by sbx plan.
//
// # Environment
//
// SBX_SOURCE is the source tree, as --source, and SBX_STATE the state directory,
// as --state. Inside, SBX is 1, and SBX_RUN, SBX_TREE and SBX_LAYER name the run,
// the source tree and the layer. Of the caller's variables those on a list of
// harmless ones pass, and those that name registries without user names and
// passwords; sbx plan --env lists what passes and what does not.
//
// # Exit status
//
// The status of sbx run is the command's own. If a signal ended the command, the
// same signal ends sbx. Otherwise it is 127 if the command was not found, 126 if
// it cannot be executed, 125 if what was asked is not possible, and 2 if the
// command line was not understood. The other verbs end with 0, with 1 if the
// doctor found something missing or diff --exit-code a difference, and else with
// 125 or 2.
//
// # Files
//
// The state is in $SBX_STATE, else in $XDG_STATE_HOME/sbx, else in
// ~/.local/state/sbx, and closed to other users. In it
// trees/NAME-HASH/layers/LAYER/upper has what was written in the source tree, and
// home beside it is the private home. For --root, /etc/subuid and /etc/subgid
// (subuid(5)) give the ids.
//
// # Diagnostics
//
// Results go to standard output. All else goes to standard error, each line
// with the prefix "sbx: ": what cannot be done and why and, where there is one,
// after "hint: ", a command line that helps. If nothing works, sbx doctor tells
// what the machine lacks.
//
// # See also
//
// bwrap(1), make(1), unshare(1), user_namespaces(7)
package main
