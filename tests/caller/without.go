package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// without executes a program that gets EAFNOSUPPORT for sockets of a family, as services do
// that systemd runs with RestrictAddressFamilies (systemd.exec(5)).
func without(family int, command []string) error {
	const number, argument0 = 0, 16 // in struct seccomp_data; the low half of it
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(value int, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(value), Jf: skip}
	}
	result := func(r uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: r} }
	filter := []unix.SockFilter{
		load(number), unless(unix.SYS_SOCKET, 3),
		load(argument0), unless(family, 1),
		result(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)),
		result(unix.SECCOMP_RET_ALLOW),
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// For all threads: it is any of them that executes.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return unix.Exec(command[0], command, os.Environ())
}
