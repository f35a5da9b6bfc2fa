// Package nonblock has the system calls of a relay that never wait. They are made
// without a word to Go's scheduler, which would otherwise take the thread for one that
// sleeps, and hand its work to another: two changes of threads for a packet.
//
// The descriptors must be non-blocking; a call that waits would hold up the garbage
// collector, and with it the whole process.
package nonblock

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2). An interrupted call is made again.
func Read(fd int, b []byte) (int, error) { return call(unix.SYS_READ, fd, b) }

// Write is write(2).
func Write(fd int, b []byte) (int, error) { return call(unix.SYS_WRITE, fd, b) }

// Send is send(2). An interrupted call is made again.
func Send(fd int, b []byte, flags int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags|unix.MSG_NOSIGNAL), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, unix.Errno(errno)
		}
	}
}

func call(nr uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(nr, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, unix.Errno(errno)
		}
	}
}

// Splice is splice(2), with SPLICE_F_NONBLOCK.
func Splice(from, to, n int) (int, error) {
	for {
		m, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(m), nil
		case syscall.EINTR:
		default:
			return 0, unix.Errno(errno)
		}
	}
}

// EpollWait is epoll_wait(2) with a timeout of 0.
func EpollWait(fd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, unix.Errno(errno)
	}
	return int(n), nil
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
