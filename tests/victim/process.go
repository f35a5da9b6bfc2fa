package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func number(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		fmt.Fprintf(os.Stderr, "victim: %q is no number\n", s)
		os.Exit(2)
	}
	return int(n)
}

// ptrace PID
func ptrace(args []string) error {
	runtime.LockOSThread()
	pid := number(args[0])
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	unix.Wait4(pid, nil, unix.WALL, nil)
	return unix.PtraceDetach(pid)
}

// vmread PID: a byte of another process's memory, wherever this one has any.
func vmread(args []string) error {
	var b byte
	local := []unix.Iovec{{Base: &b, Len: 1}}
	// The vsyscall page is no memory that can be read so; ask for an address
	// that every program of one build has, and take EFAULT as access.
	_, err := unix.ProcessVMReadv(number(args[0]), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&b)), Len: 1}}, 0)
	if err == unix.EFAULT {
		return nil
	}
	return err
}

// getfd PID FD
func getfd(args []string) error {
	fd, err := unix.PidfdOpen(number(args[0]), 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, number(args[1]), 0)
	return err
}

// kill PID SIGNAL; 0 and -1 are left to the caller's courage.
func kill(args []string) error { return unix.Kill(number(args[0]), unix.Signal(number(args[1]))) }

// prlimit PID: sets another process's soft limit of open files.
func prlimit(args []string) error {
	var old unix.Rlimit
	if err := unix.Prlimit(number(args[0]), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return err
	}
	return unix.Prlimit(number(args[0]), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(old.Max, 77), Max: old.Max}, nil)
}

// fork N: starts processes that stay, until that fails, and says how many there
// were.
func forkMany(args []string) error {
	for i := range number(args[0]) {
		if err := exec.Command("/bin/sleep", "30").Start(); err != nil {
			say("%d", i)
			return err
		}
	}
	return nil
}

// daemon FILE: a process in a session of its own, with no parent, that ignores
// what can be ignored and writes the time into a file for ever.
func daemon(args []string) error {
	cmd := exec.Command("/bin/sh", "-c", `trap '' HUP INT TERM QUIT; (while :; do date +%s%N >"$0"; sleep 0.05; done) &`, args[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return err
	}
	for range 100 {
		if _, err := os.Stat(args[0]); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unix.ETIME
}

// hold: says "ready" at once and waits to be killed.
func hold([]string) error {
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return nil
}

// fault: dies of SIGSEGV, where a core would be written.
func fault([]string) error {
	return unix.Kill(os.Getpid(), unix.SIGSEGV)
}
