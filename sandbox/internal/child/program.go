package child

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// op is one system call of the table. The child makes no decision beyond what
// stands here.
type op struct {
	nr  uintptr
	arg [6]uintptr
	// from[i] > 0 takes argument i from slot from[i]-1, where an earlier op
	// put its result.
	from [6]uint8
	// save > 0 puts the result into slot save-1.
	save uint8
	// quiet are errnos that are no failure; each use says why at its place.
	quiet [4]uint16
	// onSuccess and onQuiet skip that many of the ops that follow.
	onSuccess, onQuiet uint16
	// exact demands that the result is want: a short write is a failure.
	exact bool
	want  uintptr
	// step is the index of the plan's step that the op belongs to.
	step uint16
}

// Descriptors of the child, from its first steps on.
const (
	statusFD  = 3 // the pipe to sbx, close-on-exec
	barrierFD = 4 // sbx writes one byte when the id maps are there
)

// slots are the results that later ops use.
type slot = uint8

const (
	slotUmask slot = iota // the caller's umask
	slotFile              // short-lived: open, use, close
	slotDir               // the directory that a walk has reached
	slotNext              // the next one
	slotTree              // a detached mount
	slotCount
)

// record is what the child tells sbx, over the status pipe.
type record struct {
	kind  uint32
	index uint32 // recordFault, recordExec: the op
	errno uint32 // recordFault, recordExec; 0 for an unexpected result
	// status is the command's wait status, for recordExit.
	status uint32
	// full has bit i set if the file system of Plan.Watch[i] is full.
	full uint32
}

const (
	recordFault = 1 + iota // an op of the setup failed
	recordExec             // no candidate of the command could be executed
	recordExit             // the command has ended
)

// Program is a plan compiled for the child: everything is allocated, converted
// and pinned before the clone.
type Program struct {
	plan  plan.Plan
	flags uintptr // of clone(2)
	// setup is run by pid 1, then command by the process that becomes the
	// command.
	setup, command []op
	// candidates are the paths to execve(2), in order.
	candidates []uintptr
	// argv and envp are NULL-terminated. script is argv for /bin/sh, with the
	// candidate to be put at index 1, where a candidate has no #! line.
	argv, envp, script []uintptr
	shell              uintptr
	// barrier says that the setup waits for id maps written by the parent.
	barrier bool
	// watch are Plan.Watch as C strings, buf their statfs(2).
	watch []uintptr
	buf   unix.Statfs_t

	slots   [slotCount]uintptr
	record  record
	signals uint64 // what pid 1 waits for
	mask    uint64 // the empty signal mask
	info    [16]uint64
	status  uint32

	// pin keeps what the table points to alive. The table itself holds
	// uintptrs: storing a pointer after the clone could run into a write
	// barrier.
	pin []any
	// arena is where the next string goes.
	arena []byte
}

// str pins s as a C string. s has no NUL byte: paths and arguments come from C
// strings, and package policy refuses others.
func (g *Program) str(s string) uintptr {
	n := len(s) + 1
	if n > len(g.arena) {
		g.arena = make([]byte, max(n, 16<<10))
		g.pin = append(g.pin, g.arena)
	}
	b := g.arena[:n:n]
	g.arena = g.arena[n:]
	copy(b, s)
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

func (g *Program) bytes(b []byte) uintptr {
	g.pin = append(g.pin, b)
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// pinned keeps *v alive and gives its address.
func pinned[T any](g *Program, v *T) uintptr {
	g.pin = append(g.pin, v)
	return uintptr(unsafe.Pointer(v))
}

// cstrings pins a NULL-terminated array.
func (g *Program) cstrings(list []string) []uintptr {
	total := 0
	for _, s := range list {
		total += len(s) + 1
	}
	// One block: an argument list may have a hundred thousand entries.
	block := make([]byte, total+1)
	base := g.bytes(block)
	out := make([]uintptr, len(list)+1)
	at := 0
	for i, s := range list {
		out[i] = base + uintptr(at)
		at += copy(block[at:], s) + 1
	}
	return out
}
