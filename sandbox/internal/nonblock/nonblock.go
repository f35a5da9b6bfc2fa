// Package nonblock has the system calls of a relay that never wait. They are made
// without a word to Go's scheduler, which would otherwise take the thread for one that
// sleeps, and hand its work to another: two changes of threads for a packet.
//
// The descriptors must be non-blocking; a call that waits would hold up the garbage
// collector, and with it the whole process.
//
// Package unsafe is used for the addresses of buffers alone, each converted in the call
// itself (unsafe.Pointer, rule 4): golang.org/x/sys/unix has these calls only with a word to
// the scheduler.
package nonblock

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2).
func Read(fd int, b []byte) (int, error) { return call(unix.SYS_READ, fd, start(b), len(b), 0, 0, 0) }

// Write is write(2).
func Write(fd int, b []byte) (int, error) { return call(unix.SYS_WRITE, fd, start(b), len(b), 0, 0, 0) }

// Send is send(2), with MSG_NOSIGNAL.
func Send(fd int, b []byte, flags int) (int, error) {
	return call(unix.SYS_SENDTO, fd, start(b), len(b), flags|unix.MSG_NOSIGNAL, 0, 0)
}

// Splice is splice(2), with SPLICE_F_NONBLOCK.
func Splice(from, to, n int) (int, error) {
	return call(unix.SYS_SPLICE, from, nil, to, 0, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
}

// EpollWait is epoll_wait(2) with a timeout of 0.
func EpollWait(fd int, events []unix.EpollEvent) (int, error) {
	return call(unix.SYS_EPOLL_PWAIT, fd, unsafe.Pointer(unsafe.SliceData(events)), len(events), 0, 0, 0)
}

// Accept is accept4(2), with SOCK_NONBLOCK and SOCK_CLOEXEC, of a socket of IPv4 or IPv6.
func Accept(fd int) (accepted int, from netip.AddrPort, err error) {
	var sa unix.RawSockaddrInet6 // the larger one
	size := uint32(unsafe.Sizeof(sa))
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, from, unix.Errno(errno)
	}
	return int(n), addrPort(&sa), nil
}

// Name is getsockname(2), of a socket of IPv4 or IPv6.
func Name(fd int) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}, unix.Errno(errno)
	}
	return addrPort(&sa), nil
}

// call makes a system call with a descriptor and an address. One that was interrupted is
// made again.
func call(nr uintptr, fd int, at unsafe.Pointer, n, a4, a5, a6 int) (int, error) {
	for {
		r, _, errno := syscall.RawSyscall6(nr, uintptr(fd), uintptr(at), uintptr(n), uintptr(a4), uintptr(a5), uintptr(a6))
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, unix.Errno(errno)
		}
	}
}

func start(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	switch sa.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
	}
	return netip.AddrPort{}
}
