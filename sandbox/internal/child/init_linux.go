package child

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// init is the life of pid 1: it reaps, passes on the signals that sbx sends
// it, and ends when the command does. With it the kernel kills whatever is left
// in the pid namespace (pid_namespaces(7)).
//
// All signals are blocked and taken by rt_sigtimedwait(2). A blocked signal
// from an ancestor pid namespace is queued even though pid 1 has no handler
// (kernel/signal.c:sig_ignored).
//
//go:norace
//go:nosplit
func (t *table) init(command uintptr) {
	for {
		sig, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT,
			uintptr(unsafe.Pointer(&t.signals)), uintptr(unsafe.Pointer(&t.info)), 0, 8, 0, 0)
		if errno != 0 {
			continue // EINTR, after a stop and continue
		}
		if syscall.Signal(sig) == syscall.SIGCHLD {
			t.reap(command)
			continue
		}
		t.pass(command, syscall.Signal(sig))
	}
}

// reap collects every process that has ended: signals of one kind are not
// counted.
//
//go:norace
//go:nosplit
func (t *table) reap(command uintptr) {
	for {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&t.status)),
			unix.WNOHANG|unix.WALL, 0, 0, 0)
		if errno != 0 || pid == 0 {
			return
		}
		if t.status&0xff == 0x7f {
			t.detach(pid)
			continue
		}
		if pid != command {
			continue
		}
		t.record.kind, t.record.status = recordExit, t.status
		for i := 0; i < len(t.watch); i++ {
			_, _, errno := syscall.RawSyscall6(unix.SYS_STATFS, t.watch[i], uintptr(unsafe.Pointer(&t.buf)), 0, 0, 0, 0)
			if errno == 0 && (t.buf.Bavail == 0 || t.buf.Ffree == 0) {
				t.record.full |= 1 << i
			}
		}
		syscall.RawSyscall6(unix.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&t.record)), unsafe.Sizeof(t.record), 0, 0, 0)
		for {
			syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
		}
	}
}

// detach lets a child go on that has made pid 1 its tracer and has stopped
// (PTRACE_TRACEME in ptrace(2)), as programs do that do not want to be traced. It gets
// the signal at which it stopped; SIGTRAP comes of execve(2) alone.
//
//go:norace
//go:nosplit
func (t *table) detach(pid uintptr) {
	sig := uintptr(t.status >> 8 & 0x7f)
	if syscall.Signal(sig) == syscall.SIGTRAP {
		sig = 0
	}
	syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, pid, 0, sig, 0, 0)
}

// pass hands a signal on. What a terminal sends to its foreground process
// group goes to the command's group, the rest to the command alone: that is
// who would have had it without sbx. SIGTSTP becomes SIGSTOP, because the
// kernel drops it for a group that has no parent in its own session.
//
//go:norace
//go:nosplit
func (t *table) pass(command uintptr, sig syscall.Signal) {
	to := command
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGWINCH, syscall.SIGCONT:
		to = -command
	case syscall.SIGTSTP:
		to, sig = -command, syscall.SIGSTOP
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_KILL, to, uintptr(sig), 0, 0, 0, 0)
	if errno == syscall.ESRCH && to != command {
		// The command has not called setsid(2) yet.
		syscall.RawSyscall6(unix.SYS_KILL, command, uintptr(sig), 0, 0, 0, 0)
	}
}
