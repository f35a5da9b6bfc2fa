package child

import (
	"math/bits"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The entry point of the sbx binary is sbx_start (cmd/sbx is linked with
// -ldflags=-E=sbx_start), not that of the Go runtime. Where the command line
// looks like an ordinary run it forks the sandbox's first process before the
// runtime starts. That costs next to nothing there: a process that has just been
// executed has hardly a page to copy, no other thread and no heap. Making the
// namespaces then takes the kernel no longer than starting the runtime takes
// sbx, and both go on at once.
//
//	sbx_start                            forked
//	  fork ───────────────────────────►  unshare
//	  the runtime starts, main             clone, as a child of sbx's ──►  pid 1
//	  Launch: compile the first steps      exit                            futex wait
//	  futex wake ─────────────────────────────────────────────────────►  the first steps
//
// A binary that was linked without the flag is slower and otherwise the same:
// Launch then clones.
//
// There is no runtime yet, and no g: what spawn_linux.go says of the child holds
// here for the parent too.

// early is what sbx_start has begun.
var early struct {
	// pid is the forked process, 0 if there is none, and memory what it shares
	// with this one.
	pid, memory uintptr
	held        bool // see holdSignals
	// cpus are the processors of the caller, of which so many bytes are known.
	cpus     [128]byte
	cpuBytes uintptr
	slack    uintptr // the caller's, 0 where it has not been changed
	// status is the socket: this end, the child's.
	status [2]int32
}

// Early says whether there is something to adopt.
func Early() bool { return early.pid != 0 }

// earlyEntry is begin for sbx_start, which calls it as Go calls Go.
//
//lint:ignore U1000 entry_amd64.s and entry_arm64.s read it
var earlyEntry = begin

// begin is called by sbx_start with the command line. A failure is no failure:
// Launch tries again and says why.
//
//go:norace
//go:nosplit
func begin(argc uintptr, argv *[1 << 20]*[1 << 20]byte) {
	if !ordinary(argc, argv) {
		return
	}
	if euid, _, _ := syscall.RawSyscall6(unix.SYS_GETEUID, 0, 0, 0, 0, 0, 0); euid == 0 {
		return // its files want idmapped mounts first
	}
	addr, _, errno := syscall.RawSyscall6(unix.SYS_MMAP, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uintptr(0), 0)
	if errno != 0 || !earlySocket() {
		return
	}
	early.memory = addr
	here := processors()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	switch {
	case errno != 0:
	case pid == 0:
		forked(*(**table)(unsafe.Pointer(&early.memory)))
	default:
		early.pid = pid
		holdSignals()
		apart(here, pid)
		slacken()
	}
}

// Forwarded are the signals that someone may send to sbx and mean the command.
// SIGCHLD, SIGURG, SIGPIPE and the faults are sbx's own; SIGKILL and SIGSTOP
// cannot be caught, and the first takes the sandbox with it.
var Forwarded = [...]unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGIO, unix.SIGPWR, unix.SIGVTALRM,
}

// holdSignals blocks them in all threads that the runtime will have, but the one
// that it makes for os/signal: they wait until sbx can pass them on. Not all can wait
// (see Held).
//
//go:norace
//go:nosplit
func holdSignals() {
	var set uint64
	for _, s := range Forwarded {
		set |= 1 << (uint(s) - 1)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
	early.held = true
}

// processors finds out where the process may run, and where it does. cpuBytes stays 0 if that
// is not known, as with more than 1024 processors.
//
//go:norace
//go:nosplit
func processors() (here uint32) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(early.cpus), uintptr(unsafe.Pointer(&early.cpus)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	_, _, errno = syscall.RawSyscall6(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&here)), 0, 0, 0, 0, 0)
	if errno == 0 && uintptr(here/8) < n {
		early.cpuBytes = n
	}
	return here
}

// apart keeps the process on the processor where it is, until Unpin, and the forked one off it,
// until it gets its first steps. The runtime then has one P and makes one thread instead of
// four, whose start would delay sbx and whose search for work the child. And the child does
// not wait behind its parent, which is where the kernel mostly puts it, also beside an idle
// processor.
//
//go:norace
//go:nosplit
func apart(here uint32, pid uintptr) {
	n := early.cpuBytes
	if n == 0 {
		return
	}
	var one [128]byte
	one[here/8] = 1 << (here % 8)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SCHED_SETAFFINITY, 0, n, uintptr(unsafe.Pointer(&one)), 0, 0, 0)
	if errno != 0 {
		early.cpuBytes = 0
		return
	}
	others := early.cpus
	others[here/8] &^= one[here/8]
	if others != [128]byte{} {
		syscall.RawSyscall6(unix.SYS_SCHED_SETAFFINITY, pid, n, uintptr(unsafe.Pointer(&others)), 0, 0, 0)
	}
}

// everywhere lets the calling thread, and what it starts, run where the caller may.
//
//go:norace
//go:nosplit
func everywhere() {
	if early.cpuBytes > 0 {
		syscall.RawSyscall6(unix.SYS_SCHED_SETAFFINITY, 0, early.cpuBytes, uintptr(unsafe.Pointer(&early.cpus)), 0, 0, 0)
	}
}

// slack is how late a timer may be, in nanoseconds (PR_SET_TIMERSLACK in prctl(2)).
const slack = 2e6

// slacken makes the timers imprecise of the threads that the runtime starts with. One of
// them looks for work every twenty microseconds (sysmon in runtime/proc.go), which takes a
// sixth of the time that a short run takes, and finds none.
//
//go:norace
//go:nosplit
func slacken() {
	if now, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0, 0, 0, 0); errno == 0 && now < slack {
		early.slack = now
		syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack, 0, 0, 0, 0)
	}
}

// Unpin gives the calling thread the caller's processors and timers again, and those
// that it starts. It is called on the main thread, before there are threads that matter.
func Unpin() {
	if early.slack > 0 {
		syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, early.slack, 0, 0, 0, 0)
	}
	everywhere()
}

// UseProcessors gives the runtime the caller's processors again.
func UseProcessors() {
	n := 0
	for _, b := range early.cpus[:early.cpuBytes] {
		n += bits.OnesCount8(b)
	}
	if n > 0 && runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// Held says that a signal of Forwarded is not lost, however late sbx takes it in
// hand. Of the others the runtime unblocks four in each of its threads
// (runtime/signal_unix.go:blockableSig), and they end sbx until then. For two it has no
// handler before they are asked for, and unblocks them before it installs one (sigenable):
// one that waits would stop sbx alone, or not continue the command.
func Held(s unix.Signal) bool {
	switch s {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGTSTP, unix.SIGCONT:
		return false
	}
	return early.held
}

// earlySocket is socketpair.
//
//go:norace
//go:nosplit
func earlySocket() bool {
	p := &early.status
	_, _, errno := syscall.RawSyscall6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0, uintptr(unsafe.Pointer(p)), 0, 0)
	if errno != 0 {
		return false
	}
	for i := range p {
		high, _, errno := syscall.RawSyscall6(unix.SYS_FCNTL, uintptr(p[i]), unix.F_DUPFD_CLOEXEC, highFD, 0, 0, 0)
		if errno != 0 {
			return false
		}
		syscall.RawSyscall6(unix.SYS_CLOSE, uintptr(p[i]), 0, 0, 0, 0, 0)
		p[i] = int32(high)
	}
	return true
}

// forked is the forked process: it makes the namespaces and pid 1.
//
//go:norace
//go:nosplit
func forked(t *table) {
	// Out of the caller's process group, to which signals are sent that sbx passes
	// on.
	syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	t.signals = ^uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&t.signals)), 0, 8, 0, 0)
	for fd := uintptr(0); fd <= 2; fd++ {
		// As the runtime does for sbx itself: what is closed must not become
		// something else.
		if _, _, errno := syscall.RawSyscall6(unix.SYS_FCNTL, fd, unix.F_GETFD, 0, 0, 0, 0); errno != 0 {
			syscall.RawSyscall6(unix.SYS_OPENAT, at, uintptr(unsafe.Pointer(&devNull)), unix.O_RDWR, 0, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_DUP3, uintptr(early.status[1]), statusFD, unix.O_CLOEXEC, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, statusFD+1, ^uintptr(0)>>32, 0, 0, 0, 0)
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET)
	_, _, errno := syscall.RawSyscall6(unix.SYS_UNSHARE, flags, 0, 0, 0, 0, 0)
	t.cloneErrno = uintptr(errno)
	if errno == 0 {
		stack := uintptr(unsafe.Pointer(t)) + earlySize - stackRoom
		t.clonePID, t.cloneErrno = rawClone(unix.CLONE_VM|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), stack, **(**uintptr)(unsafe.Pointer(&childEntry)), t)
	}
	t.exit()
}

var devNull = [...]byte{'/', 'd', 'e', 'v', '/', 'n', 'u', 'l', 'l', 0}

// childEntry is earlyChild for rawClone.
var childEntry = earlyChild

// earlyChild is pid 1.
//
//go:norace
//go:nosplit
func earlyChild(t *table) {
	t.poll.Fd = statusFD
	t.tie()
	t.child()
}

// earlySize is what the table and the child's stack take of the shared memory.
const earlySize = 36 << 10

// ordinary says whether the command line looks like a run whose sandbox begins
// as plan.First says. Nothing depends on the guess but the time it takes: a child
// that does not fit is abandoned.
//
//go:norace
//go:nosplit
func ordinary(argc uintptr, argv *[1 << 20]*[1 << 20]byte) bool {
	if argc < 3 || argc > 1<<19 || !isFlag(argv[1]) && !begins(argv[1], "run\x00") {
		return false
	}
	for i := uintptr(1); i < argc; i++ {
		switch {
		case begins(argv[i], "--\x00"):
			return true
		case begins(argv[i], "--net=none\x00"), begins(argv[i], "--net=internet\x00"), begins(argv[i], "--net-allow"):
		case begins(argv[i], "--root"), begins(argv[i], "--net"), begins(argv[i], "--tmp-size"),
			begins(argv[i], "--help"), begins(argv[i], "-h"):
			return false // these make a sandbox that begins otherwise, or none
		}
	}
	return false
}

//go:norace
//go:nosplit
func isFlag(arg *[1 << 20]byte) bool { return begins(arg, "-") }

// begins says whether a C string begins with a prefix; "\x00" is its end.
//
//go:norace
//go:nosplit
func begins(arg *[1 << 20]byte, prefix string) bool {
	for i := 0; i < len(prefix); i++ {
		if arg[i] != prefix[i] {
			return false
		}
	}
	return true
}
