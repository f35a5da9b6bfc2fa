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
	if itself(a) || itself(b) {
		t.Error("two sockets are one")
	}
	port := closedPort(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	at := sockaddrOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err = unix.Bind(fd, at); err == nil {
		err = unix.Connect(fd, at)
	}
	if err != nil || !itself(fd) {
		t.Errorf("a socket that is connected to itself: %v", err)
	}
}
