// Package policy says what is wanted of a run: which paths are shown and how,
// which network, which environment, which layer. It is data and pure
// functions: nothing here looks at the disk. All paths are absolute; whether
// they exist, and what they resolve to, package host finds out.
//
// The built-in rules (preset.go) and the environment's allow-list (env.go) are
// tables in one place each, so that a reader can check what is let in.
package policy
