// Package early does what must be done before the packages of the standard
// library are initialised.
//
// It remembers the caller's RLIMIT_NOFILE. Package syscall raises the soft limit
// to the hard one in its init function and keeps the original to itself
// (src/syscall/rlimit.go), so a program that execs by raw system calls would hand
// the raised limit on. Programs that use select(2), or that close every possible
// descriptor, break or crawl under it.
//
// And it maps the begin of the Go heap in one go. A short run touches some two
// hundred pages there, each with a page fault; in a virtual machine that takes
// longer than anything else sbx does.
//
// Packages without unfinished imports are initialised in the order of their
// import paths (Go specification, "Package initialization"), so this one imports
// nothing, and makes its calls in assembly.
package early

// prlimit returns prlimit(0, RLIMIT_NOFILE, NULL, old), or a negative errno.
//
//go:noescape
func prlimit(old *[2]uint64) int

// populate maps length bytes at once, from the begin of the 32 KiB where p lies
// (madvise(2), MADV_POPULATE_WRITE, Linux 5.14), or returns a negative errno. It
// has no go:noescape, so that what is passed lies on the heap.
func populate(p *[256]byte, length uintptr) int

// original is set by init and never again.
var original [2]uint64

// known is false where prlimit64(2) failed, as under a seccomp filter that
// refuses it.
var known bool

// heap is most of what a short run touches of it, in bytes.
const heap = 512 << 10

func init() {
	known = prlimit(&original) == 0
	// What is allocated now lies near the end of what is in use.
	populate(new([256]byte), heap)
}

// Nofile returns the soft and hard RLIMIT_NOFILE that the process was started with
// (getrlimit(2)). ok is false where it could not be read.
func Nofile() (soft, hard uint64, ok bool) { return original[0], original[1], known }
