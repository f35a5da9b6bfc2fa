// Package nofile remembers the caller's RLIMIT_NOFILE.
//
// Package syscall raises the soft limit to the hard one in its init function
// and keeps the original to itself (src/syscall/rlimit.go), so a program that
// execs by raw system calls would hand the raised limit on. Programs that use
// select(2), or that close every possible descriptor, break or crawl under it.
//
// The only way to see the original is to look before package syscall does:
// packages without unfinished imports are initialised in the order of their
// import paths (Go specification, "Package initialization"), so this one may
// import nothing that leads to syscall, and makes its one call in assembly.
package nofile

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

// Original returns the soft and hard RLIMIT_NOFILE that the process was
// started with (getrlimit(2)). ok is false where it could not be read.
func Original() (soft, hard uint64, ok bool) { return original[0], original[1], known }
