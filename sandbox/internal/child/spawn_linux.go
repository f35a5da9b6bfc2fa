package child

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows runs, in part, in a process that has been cloned from a
// multi-threaded Go program and never execs: the other threads are gone, locks
// may be held for ever, the garbage collector may have been at work. For every
// function that the child reaches holds:
//
//   - //go:nosplit: the stack cannot grow, and a preemption request, which sits
//     in the stack guard, must not be looked at
//   - //go:norace: no calls into the race detector
//   - no allocation, no locks, no defer, no maps, no interfaces, no closures
//   - no store of a pointer: a write barrier may be on
//   - system calls only by RawSyscall6, which does not tell the scheduler

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// clone starts the child. In the parent it returns the child's pid; in the
// child it does not return.
//
// runtimeBeforeFork blocks all signals of the thread, and they stay blocked in
// the child: a handler of the Go runtime would not survive there.
//
//go:noinline
//go:norace
//go:nosplit
func (g *Program) clone() (pid uintptr, errno syscall.Errno) {
	runtimeBeforeFork()
	// The arguments after flags are 0 and so in the same order on all
	// architectures: no new stack, no tids, no TLS.
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, g.flags, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		runtimeAfterFork()
		return pid, errno
	}
	g.child()
	return 0, 0
}

// child is pid 1 of the sandbox.
//
//go:norace
//go:nosplit
func (g *Program) child() {
	if at, errno := g.run(g.setup); at >= 0 {
		g.report(recordFault, at, errno)
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		g.report(recordFault, len(g.setup), errno)
	}
	if pid == 0 {
		if at, errno := g.run(g.command); at >= 0 {
			g.report(recordFault, len(g.setup)+at, errno)
		}
		g.report(recordExec, 0, g.exec())
	}
	g.init(pid)
}

// run makes the calls of a table. It returns the index and errno of the op that
// failed, or -1.
//
//go:norace
//go:nosplit
func (g *Program) run(ops []op) (failed int, errno syscall.Errno) {
	for i := 0; i < len(ops); i++ {
		o := &ops[i]
		for j := range o.from {
			if s := o.from[j]; s > 0 {
				o.arg[j] = g.slots[s-1]
			}
		}
		r, _, e := syscall.RawSyscall6(o.nr, o.arg[0], o.arg[1], o.arg[2], o.arg[3], o.arg[4], o.arg[5])
		switch {
		case e != 0 && !o.tolerates(e):
			return i, e
		case e != 0:
			i += int(o.onQuiet)
			continue
		case o.exact && r != o.want:
			return i, 0
		}
		if o.save > 0 {
			g.slots[o.save-1] = r
		}
		i += int(o.onSuccess)
	}
	return -1, 0
}

//go:norace
//go:nosplit
func (o *op) tolerates(e syscall.Errno) bool {
	for i := range o.quiet {
		if o.quiet[i] != 0 && syscall.Errno(o.quiet[i]) == e {
			return true
		}
	}
	return false
}

// exec tries the candidates as execvp(3) does, and returns the errno that says
// most.
//
//go:norace
//go:nosplit
func (g *Program) exec() syscall.Errno {
	argv := uintptr(unsafe.Pointer(&g.argv[0]))
	envp := uintptr(unsafe.Pointer(&g.envp[0]))
	last := syscall.ENOENT
	for i := 0; i < len(g.candidates); i++ {
		_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVE, g.candidates[i], argv, envp, 0, 0, 0)
		switch errno {
		case syscall.ENOENT, syscall.ENOTDIR:
			continue
		case syscall.EACCES:
			// A later directory may have one that can be executed.
			last = errno
			continue
		case syscall.ENOEXEC:
			// A script without #!.
			g.script[1] = g.candidates[i]
			_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVE, g.shell, uintptr(unsafe.Pointer(&g.script[0])), envp, 0, 0, 0)
		}
		return errno
	}
	return last
}

// report tells sbx of a failure and ends the process.
//
//go:norace
//go:nosplit
func (g *Program) report(kind uint32, index int, errno syscall.Errno) {
	g.record.kind, g.record.index, g.record.errno = kind, uint32(index), uint32(errno)
	syscall.RawSyscall6(unix.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&g.record)), unsafe.Sizeof(g.record), 0, 0, 0)
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}
