// Package early does what must be done before the packages of the standard
// library are initialised.
//
// It remembers the caller's RLIMIT_NOFILE. Package syscall raises the soft limit
// to the hard one in its init function and keeps the original to itself
// (src/syscall/rlimit.go), so a program that execs by raw system calls would hand
// the raised limit on. Programs that use select(2), or that close every possible
// descriptor, break or crawl under it.
//
// Packages without unfinished imports are initialised in the order of their
// import paths (Go specification, "Package initialization"), so this one imports
// nothing, and makes its calls in assembly.
package early

// prlimit returns prlimit(0, RLIMIT_NOFILE, NULL, old), or a negative errno.
//
//go:noescape
func prlimit(old *[2]uint64) int

// original is set by init and never again.
var original [2]uint64

// known is false where prlimit64(2) failed, as under a seccomp filter that
// refuses it.
var known bool

func init() { known = prlimit(&original) == 0 }

// Nofile returns the soft and hard RLIMIT_NOFILE that the process was started with
// (getrlimit(2)). ok is false where it could not be read.
func Nofile() (soft, hard uint64, ok bool) { return original[0], original[1], known }
