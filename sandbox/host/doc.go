// Package host looks at the machine, and is the only package that does: Probe
// for a run, FindTree for the root of the source tree, GitDirs for git
// directories outside it, Diagnose and Explain where something is missing. It
// reads and never writes.
//
// What it reads may be hostile: a source tree may be an unpacked archive, with a
// .git file that points at the user's keys. Nothing is followed there that does
// not point back, and no path is touched that a run does not need, because a dead
// automount would hang it.
package host
