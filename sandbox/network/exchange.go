package network

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxUDP is the size of a datagram that no network takes apart, by the DNS Flag
// Day 2020 and RFC 9715.
const maxUDP = 1232

// maxStray is how many datagrams that are no reply to the query are read for one.
const maxStray = 64

// dial makes a socket of the host's that is connected to a name server. Each query
// has one of its own, with a port that the kernel chooses at random, so that a reply
// cannot be forged by who does not see the query (RFC 5452).
//
// Package net would do this, but it costs each start of sbx more than all of this.
func dial(server netip.Addr, port uint16, kind int, deadline time.Time) (*os.File, error) {
	family := unix.AF_INET
	if server.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	to, err := sockaddr(fd, server, port)
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	// A descriptor that does not block is waited for by the runtime's poller.
	f := os.NewFile(uintptr(fd), "name server "+server.String())
	if err := f.SetDeadline(deadline); err != nil {
		f.Close()
		return nil, err
	}
	if kind == unix.SOCK_STREAM {
		if err := connected(f); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// sockaddr makes an address for connect(2). A zone is the name or the number of an
// interface.
func sockaddr(fd int, a netip.Addr, port uint16) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		n, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			ifr, err := unix.NewIfreq(zone)
			if err != nil {
				return nil, err
			}
			if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
				return nil, err
			}
			n = uint64(ifr.Uint32())
		}
		sa.ZoneId = uint32(n)
	}
	return sa, nil
}

// connected waits until connect(2) is through, and gives its error. It looks before it
// waits: the poller may have said that the socket is ready before anybody waited.
func connected(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var status error
	err = c.Write(func(fd uintptr) (done bool) {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			status = os.NewSyscallError("getsockopt", err)
		case errno != 0:
			status = os.NewSyscallError("connect", unix.Errno(errno))
		default:
			_, err = unix.Getpeername(int(fd))
			return err == nil
		}
		return true
	})
	if err != nil {
		return err
	}
	return status
}

// exchangeUDP sends a query and reads until its reply, which reply tells.
func exchangeUDP(server netip.Addr, port uint16, query []byte, deadline time.Time, reply func([]byte) bool) error {
	f, err := dial(server, port, unix.SOCK_DGRAM, deadline)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(query); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for range maxStray {
		n, err := f.Read(buf)
		if err != nil && err != io.EOF { // which is an empty datagram
			return err
		}
		if reply(buf[:n]) {
			return nil
		}
	}
	return errors.New("it has sent other replies only")
}

// exchangeTCP does the same by TCP, where a length is in front (RFC 1035, section
// 4.2.2).
func exchangeTCP(server netip.Addr, port uint16, query []byte, deadline time.Time, reply func([]byte) bool) error {
	f, err := dial(server, port, unix.SOCK_STREAM, deadline)
	if err != nil {
		return err
	}
	defer f.Close()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	if _, err := f.Write(framed); err != nil {
		return err
	}
	var size [2]byte
	if _, err := io.ReadFull(f, size[:]); err != nil {
		return err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(f, buf); err != nil {
		return err
	}
	if !reply(buf) {
		return errors.New("its reply is to another query")
	}
	return nil
}
