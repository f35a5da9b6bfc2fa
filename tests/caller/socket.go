package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func sockaddr(s string) (int, unix.Sockaddr) {
	a := netip.MustParseAddrPort(s)
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// nonblocking begins a connection.
func nonblocking(addr string) (int, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sa); err != unix.EINPROGRESS {
		return fd, fmt.Errorf("connect does not begin: %v", err)
	}
	return fd, nil
}

// pending ADDRESS MILLISECONDS: nothing comes back.
func pending(args []string) error {
	fd, err := nonblocking(args[0])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, number(args[1]))
	if err != nil || n == 0 {
		return err
	}
	errno, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if errno == 0 {
		return errors.New("connected")
	}
	return unix.Errno(errno)
}

// epoll ADDRESS: registered before it connects.
func epoll(args []string) error {
	family, sa := sockaddr(args[0])
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	edge := uint32(unix.EPOLLIN | unix.EPOLLOUT | 1<<31)
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edge, Fd: int32(fd)}); err != nil {
		return err
	}
	if err := unix.Connect(fd, sa); err != unix.EINPROGRESS {
		return fmt.Errorf("connect does not begin: %v", err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		events := make([]unix.EpollEvent, 4)
		n, err := unix.EpollWait(ep, events, 1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n <= 0 || events[0].Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			continue
		}
		if errno, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
			return unix.Errno(errno)
		}
		if _, err := unix.Getpeername(fd); err == nil {
			return nil
		}
	}
	return errors.New("no event")
}

// storm ADDRESS COUNT: connections that nobody answers, 400 at a time.
func storm(args []string) error {
	var open []int
	for range number(args[1]) {
		fd, err := nonblocking(args[0])
		if err != nil {
			return err
		}
		if open = append(open, fd); len(open) > 400 {
			unix.Close(open[0])
			open = open[1:]
		}
	}
	return nil
}

// datagram ADDRESS SIZE: sent and echoed.
func datagram(args []string) error {
	c, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	n := number(args[1])
	want := bytes.Clone(pattern[:n])
	if len(args) > 2 {
		begin, err := hex.DecodeString(args[2])
		if err != nil {
			return err
		}
		copy(want, begin)
	}
	buf := make([]byte, 65536)
	for range 3 { // it may be lost
		if _, err = c.Write(want); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		var m int
		if m, err = c.Read(buf); err == nil {
			if !bytes.Equal(buf[:m], want) {
				return fmt.Errorf("%d other bytes", m)
			}
			return nil
		}
		var errno unix.Errno
		if errors.As(err, &errno) {
			return errno
		}
	}
	return err
}

// remotes ADDRESS COUNT: one unconnected socket, and as many ports of the server.
func remotes(args []string) error {
	first := netip.MustParseAddrPort(args[0])
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range number(args[1]) {
		to := netip.AddrPortFrom(first.Addr(), first.Port()+uint16(i))
		if _, err := c.WriteToUDPAddrPort(fmt.Appendf(nil, "%d", to.Port()), to); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, 100)
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if from.Port() != to.Port() || from.Addr().Unmap() != to.Addr() || string(buf[:n]) != fmt.Sprint(to.Port()) {
			return fmt.Errorf("%v answers %q, not %v", from, buf[:n], to)
		}
	}
	return nil
}

// flood COUNT: datagrams to anybody.
func flood(args []string) error {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	data := make([]byte, 1000)
	for range number(args[0]) {
		a := netip.AddrFrom4([4]byte{byte(20 + rand.IntN(20)), byte(rand.Uint32()), byte(rand.Uint32()), 1})
		c.WriteToUDPAddrPort(data, netip.AddrPortFrom(a, uint16(1+rand.IntN(65534))))
	}
	return nil
}

// ping ADDRESS: by a socket for that, without a capability.
func ping(args []string) error {
	a := netip.MustParseAddr(args[0])
	family, proto, kind := unix.AF_INET, unix.IPPROTO_ICMP, byte(8)
	if a.Is6() {
		family, proto, kind = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	_, sa := sockaddr(netip.AddrPortFrom(a, 0).String())
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	request := append([]byte{kind, 0, 0, 0, 0, 0, 0, 7}, pattern[:56]...)
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	buf := make([]byte, 200)
	n, err := unix.Read(fd, buf)
	switch {
	case err != nil:
		return err
	case n != len(request) || !bytes.Equal(buf[8:n], pattern[:56]) || binary.BigEndian.Uint16(buf[6:]) != 7:
		return fmt.Errorf("the reply is %x", buf[:n])
	}
	return nil
}

// serve NETWORK ADDRESS: answers each connection with its own address, and the first
// line of HTTP, until it is killed.
func serve(args []string) error {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "inside got "+line)
		}()
	}
}
