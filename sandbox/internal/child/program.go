package child

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// op is one system call of the table. The child makes no decision beyond what
// stands here.
type op struct {
	arg [6]uintptr
	// want is the result that exact demands: a short write is a failure.
	want uintptr
	nr   uint16
	// from[i] > 0 takes argument i from slot from[i]-1, where an earlier op
	// put its result.
	from [6]uint8
	// save > 0 puts the result into slot save-1.
	save  uint8
	exact bool
	// quiet are errnos that are no failure; each use says why at its place.
	quiet [4]uint16
	// onSuccess and onQuiet skip that many of the ops that follow.
	onSuccess, onQuiet uint16
	// step is the index of the plan's step that the op belongs to.
	step uint16
}

// Descriptors of the child.
const (
	statusFD = 3 // the socket to sbx, close-on-exec
	// highFD is where the ends of the socket are at first, out of the way.
	highFD = 10
	// sendFD is the first of what is sent to sbx, borrowFD of what has come from
	// it: below lowerFD, as limits may be low.
	borrowFD = 20
	sendFD   = 12
)

// Values of table.released.
const (
	releasedFirst = 1 + iota
	releasedOutside
	releasedSetup
	releasedCommand
)

// slots are the results that later ops use.
type slot = uint8

const (
	// slotReceived is the descriptor that came with a message: the slots begin
	// where the control message's data lies, see table.header.
	slotReceived slot = iota
	slotUmask         // the caller's umask
	slotFile          // short-lived: open, use, close
	slotDir           // the directory that a walk has reached
	slotNext          // the next one
	slotTree          // a detached mount
	slotCount
)

// record is what the child tells sbx, over the status socket.
type record struct {
	kind  uint32
	index uint32 // recordFault: the op, counted over all tables; recordNetwork
	errno uint32 // recordFault, recordExec; 0 for an unexpected result
	// status is the command's wait status, for recordExit.
	status uint32
	// full has bit i set if the file system of Plan.Watch[i] is full.
	full uint32
}

const (
	recordFault      = 1 + iota // an op failed
	recordExec                  // no candidate of the command could be executed
	recordExit                  // the command has ended
	recordNamespaces            // descriptors of the namespaces come with it
	recordMount                 // a detached mount comes with it
	recordSockets               // sockets come with it
	recordNetwork               // a part of the network comes with it, plan.Plan.Parts[index]
)

// table is all that the child works with. It lies in memory that parent and
// child share, because the child is cloned before the plan is known; it holds
// no Go pointer, only what lies in that memory itself.
type table struct {
	// first, outside and setup are run when they have been released, command, when it has
	// been, by the process that becomes the command.
	first, outside, setup, command []op
	// released is a futex(2): how much of the table the child may run.
	released uint32
	// candidates are the paths to execve(2), in order.
	candidates []uintptr
	// argv and envp are NULL-terminated. script is argv for /bin/sh, with the
	// candidate to be put at index 1, where a candidate has no #! line.
	argv, envp, script []uintptr
	shell              uintptr
	// watch are Plan.Watch as C strings, buf their statfs(2).
	watch []uintptr
	buf   unix.Statfs_t

	// header is that of a control message (cmsg(3)); a descriptor is its data.
	header [2]uintptr
	slots  [slotCount]uintptr
	record record
	cloner uintptr // the thread that cloned the child
	// clonePID and cloneErrno are what a forked process (entry.go) has come to.
	clonePID, cloneErrno uintptr
	signals              uint64 // what pid 1 waits for: all
	info                 [16]uint64
	status               uint32
	poll                 unix.PollFd // statusFD
	zero, patience       unix.Timespec
}

// memory is where the table lies: a shared anonymous mapping, from which pieces
// are cut and never given back.
type memory struct {
	all, rest []byte
}

// memorySize bounds the table. The kernel takes at most 6 MiB of arguments and
// environment (execve(2)); the steps of a large plan are some hundred KiB.
// Pages that are not touched cost nothing.
const memorySize = 64 << 20

func newMemory() (*memory, error) {
	b, err := unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	return ownMemory(b), nil
}

// ownMemory is unmapped when nothing refers to it any more. To unmap it at the
// end of a run would interrupt every processor, just before sbx exits.
func ownMemory(b []byte) *memory {
	m := &memory{all: b, rest: b}
	runtime.AddCleanup(m, func(b []byte) { unix.Munmap(b) }, b)
	return m
}

// stack cuts the child's stack and gives its upper end, with room for an
// argument. The child needs less than the 800 bytes that nosplit functions may.
func (m *memory) stack() uintptr {
	b := m.cut(32 << 10)
	return address(b) + uintptr(len(b)) - stackRoom
}

// stackRoom is above the child's stack: for an argument, and for what takes the
// place of thread-local storage.
const stackRoom = 64

// heapAddress is the begin of the arena in which the heap lies.
func heapAddress() uintptr {
	return uintptr(unsafe.Pointer(new([64]byte))) &^ (heapArena - 1)
}

// entryOf is the address of a function's code: a func value points to it.
func entryOf(f func(*table)) uintptr { return **(**uintptr)(unsafe.Pointer(&f)) }

// cut returns n zero bytes, aligned, or nil if the memory is used up.
func (m *memory) cut(n int) []byte {
	n = (n + 15) &^ 15
	if n > len(m.rest) {
		m.rest = nil // Start looks how much is left
		return nil
	}
	b := m.rest[:n:n]
	m.rest = m.rest[n:]
	return b
}

// list cuts an array of n values of a type without Go pointers.
func list[T any](m *memory, n int) []T {
	var zero T
	if n == 0 {
		return nil
	}
	b := m.cut(n * int(unsafe.Sizeof(zero)))
	if b == nil {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// put copies a value into the memory and gives its address.
func put[T any](m *memory, v T) uintptr {
	s := list[T](m, 1)
	if s == nil {
		return 0
	}
	s[0] = v
	return address(s)
}

func address[T any](s []T) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(s))) }

// str copies s as a C string. s has no NUL byte: paths and arguments come from
// C strings, and package policy refuses others.
func (m *memory) str(s string) uintptr {
	b := m.cut(len(s) + 1)
	copy(b, s)
	return address(b)
}

// bytes copies b.
func (m *memory) bytes(b []byte) uintptr {
	c := m.cut(len(b))
	copy(c, b)
	return address(c)
}

// strs copies C strings, their addresses into out.
func (m *memory) strs(list []string, out []uintptr) []uintptr {
	for i, s := range list[:min(len(list), len(out))] {
		out[i] = m.str(s)
	}
	return out
}
