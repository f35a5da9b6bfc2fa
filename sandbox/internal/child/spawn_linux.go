package child

import (
	"sync/atomic"
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

// rawVfork is clone(2) with CLONE_VM|CLONE_VFORK: the child runs on the caller's
// stack while the caller waits, so it must not touch the caller's frame. The
// return address is kept in a register meanwhile.
//
//go:noescape
func rawVfork(flags uintptr) (pid, errno uintptr)

// rawClone is clone(2) with a stack of the child's own, on which the child calls
// entry, a func(*table) that does not return.
//
//go:noescape
func rawClone(flags, stack, entry uintptr, t *table) (pid, errno uintptr)

//go:norace
//go:nosplit
func childMain(t *table) { t.child() }

// clone starts the child. In the parent it returns the child's pid; in the
// child it does not return.
//
// The child has no use for the Go heap: table and stack lie in the shared
// memory. So the heap is not copied. It saves the copy, but above all the faults
// by which the parent would get its own pages back one by one, each with an
// interrupt to the processors on which other threads of it run.
//
// runtimeBeforeFork blocks all signals of the thread, and they stay blocked in
// the child: a handler of the Go runtime would not survive there.
//
//go:noinline
//go:norace
//go:nosplit
func (t *table) clone(flags, stack, entry, heap uintptr) (pid, errno uintptr) {
	runtimeBeforeFork()
	t.cloner, _, _ = syscall.RawSyscall6(unix.SYS_GETTID, 0, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_MADVISE, heap, heapArena, unix.MADV_DONTFORK, 0, 0, 0)
	pid, errno = rawClone(flags, stack, entry, t)
	syscall.RawSyscall6(unix.SYS_MADVISE, heap, heapArena, unix.MADV_DOFORK, 0, 0, 0)
	runtimeAfterFork()
	return pid, errno
}

// heapArena is the size and alignment of the runtime's first heap arena
// (runtime/malloc.go). It need not be right: what is copied needlessly does no
// harm, and nothing else lies in a heap arena.
const heapArena = 64 << 20

// child is pid 1 of the sandbox.
//
//go:norace
//go:nosplit
func (t *table) child() {
	t.poll.Fd, t.patience.Nsec = statusFD, 100e6
	t.await(releasedFirst)
	everywhere()
	if at, errno := t.run(t.first); at >= 0 {
		t.report(recordFault, at, errno)
	}
	t.await(releasedOutside)
	if at, errno := t.run(t.outside); at >= 0 {
		t.report(recordFault, len(t.first)+at, errno)
	}
	t.await(releasedSetup)
	if at, errno := t.run(t.setup); at >= 0 {
		t.report(recordFault, len(t.first)+len(t.outside)+at, errno)
	}
	t.await(releasedCommand)
	t.endIfAlone()
	pid, errno := t.spawn()
	if errno != 0 {
		t.report(recordFault, len(t.first)+len(t.outside)+len(t.setup), syscall.Errno(errno))
	}
	t.init(pid)
}

// await waits until a part of the table has been released. A child that is
// never released is killed, by Abandon or with sbx (tie), or sees that it is alone:
// where sbx is killed while it starts, its main thread may have ended before tie and
// another, which keeps the socket open, after it.
//
// A futex and not a pipe: who writes to a pipe has its reader run on the same
// processor, because mostly the writer then sleeps. sbx goes on.
//
//go:norace
//go:nosplit
func (t *table) await(part uint32) {
	for {
		now := load(&t.released)
		if now >= part {
			return
		}
		_, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.released)), futexWait, uintptr(now),
			uintptr(unsafe.Pointer(&t.patience)), 0, 0)
		if errno == unix.ETIMEDOUT {
			t.endIfAlone()
		}
	}
}

// Operations of futex(2), on memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)

// release lets the child go on; it is the parent's side of await.
func (t *table) release(part uint32) {
	atomic.StoreUint32(&t.released, part)
	syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.released)), futexWake, 1, 0, 0, 0)
}

// tie sends the child SIGKILL when the thread that cloned it ends.
//
//go:norace
//go:nosplit
func (t *table) tie() {
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	t.endIfAlone()
}

// endIfAlone ends the child if sbx has ended: then nobody has the other end of the
// status socket, and ppoll(2) reports POLLHUP for it.
//
//go:norace
//go:nosplit
func (t *table) endIfAlone() {
	n, _, _ := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&t.poll)), 1, uintptr(unsafe.Pointer(&t.zero)), 0, 8, 0)
	if n != 0 {
		t.exit()
	}
}

// spawn starts the command. The child of rawVfork never returns from here.
//
//go:noinline
//go:norace
//go:nosplit
func (t *table) spawn() (pid, errno uintptr) {
	pid, errno = rawVfork(unix.CLONE_VM | unix.CLONE_VFORK | uintptr(unix.SIGCHLD))
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	t.become()
	return 0, 0
}

// become is the command's process, up to its execve(2).
//
//go:noinline
//go:norace
//go:nosplit
func (t *table) become() {
	if at, errno := t.run(t.command); at >= 0 {
		t.report(recordFault, len(t.first)+len(t.outside)+len(t.setup)+at, errno)
	}
	t.report(recordExec, 0, t.exec())
}

// run makes the calls of a table. It returns the index and errno of the op that
// failed, or -1.
//
//go:norace
//go:nosplit
func (t *table) run(ops []op) (failed int, errno syscall.Errno) {
	for i := 0; i < len(ops); i++ {
		o := &ops[i]
		for j := range o.from {
			if s := o.from[j]; s > 0 {
				o.arg[j] = t.slots[s-1]
			}
		}
		r, _, e := syscall.RawSyscall6(uintptr(o.nr), o.arg[0], o.arg[1], o.arg[2], o.arg[3], o.arg[4], o.arg[5])
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
			t.slots[o.save-1] = r
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
func (t *table) exec() syscall.Errno {
	argv := uintptr(unsafe.Pointer(&t.argv[0]))
	envp := uintptr(unsafe.Pointer(&t.envp[0]))
	last := syscall.ENOENT
	for i := 0; i < len(t.candidates) && t.candidates[i] != 0; i++ {
		_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVE, t.candidates[i], argv, envp, 0, 0, 0)
		switch errno {
		case syscall.ENOENT, syscall.ENOTDIR:
			continue
		case syscall.EACCES:
			// A later directory may have one that can be executed.
			last = errno
			continue
		case syscall.ENOEXEC:
			// A script without #!.
			t.script[1] = t.candidates[i]
			_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVE, t.shell, uintptr(unsafe.Pointer(&t.script[0])), envp, 0, 0, 0)
		}
		return errno
	}
	return last
}

// report tells sbx of a failure and ends the process.
//
//go:norace
//go:nosplit
func (t *table) report(kind uint32, index int, errno syscall.Errno) {
	t.record.kind, t.record.index, t.record.errno = kind, uint32(index), uint32(errno)
	syscall.RawSyscall6(unix.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&t.record)), unsafe.Sizeof(t.record), 0, 0, 0)
	t.exit()
}

// exit ends the process.
//
//go:norace
//go:nosplit
func (t *table) exit() {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}
