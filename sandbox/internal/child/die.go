package child

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Die ends this process by a signal, as its command ended. os/signal cannot do
// it: the Go runtime keeps handlers of its own for SIGABRT, SIGSEGV and the
// like, which print a traceback. It returns where the signal does not kill.
func Die(s unix.Signal) {
	// The command's core has been dropped; sbx has none to show.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var act [8]uint64 // struct sigaction: SIG_DFL is 0
	var mask uint64
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	unix.Kill(unix.Getpid(), s)
}
