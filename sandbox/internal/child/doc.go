// Package child starts a sandbox. It compiles a plan into a table of system
// calls, clones a process into new namespaces without exec, and has that
// process run the table by raw system calls and nothing else; then it forks the
// command and stays as pid 1.
//
// Why raw: a multi-threaded process can neither unshare nor join a user
// namespace, so the namespaces come with clone(2); and re-executing a Go binary
// inside costs the start of a second runtime, more than all the rest together.
// The price is that nothing of the Go runtime works after the clone;
// spawn_linux.go states the rules.
//
// Unsafe is here because the child has no runtime: a table of system calls holds
// addresses (program.go), and what the child reads is memory that the garbage
// collector does not move or free under it. No other package uses go:linkname;
// raw system calls are made here and in package nonblock alone.
//
// It knows steps, not policies.
package child
