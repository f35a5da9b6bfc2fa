package relay

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket that is connected to itself is no connection.
func TestItself(t *testing.T) {
	a, b := tcpPair(t)
	defer unix.Close(a)
	defer unix.Close(b)
	for _, fd := range []int{a, b} {
		to, err := unix.Getpeername(fd)
		if err != nil || itself(fd, addrPort(to)) {
			t.Errorf("two sockets are one: %v", err)
		}
	}
	port := closedPort(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	at := sockaddrOf(to)
	if err = unix.Bind(fd, at); err == nil {
		err = unix.Connect(fd, at)
	}
	if err != nil || !itself(fd, to) || !itself(fd, netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), port)) {
		t.Errorf("a socket that is connected to itself: %v", err)
	}
}
