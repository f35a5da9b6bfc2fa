package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// parsePlace reads ADDR:PORT, of which the zone may be an interface.
func parsePlace(s string) (int, unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return 0, nil, err
	}
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return 0, nil, unix.ENODEV
		}
		sa.ZoneId = uint32(i.Index)
	}
	return unix.AF_INET6, sa, nil
}

// option sets one by name, before a socket is used.
func option(fd int, name string) error {
	key, value, _ := strings.Cut(name, "=")
	switch key {
	case "freebind":
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1), ignore(unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)))
	case "transparent":
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	case "transparent6":
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	case "mark":
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1)
	case "device":
		return unix.BindToDevice(fd, value)
	case "source": // loose source route by an address, RFC 791
		a := netip.MustParseAddr(value).As4()
		return unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_OPTIONS, string([]byte{131, 7, 4, a[0], a[1], a[2], a[3], 0}))
	case "rthdr": // IPv6 routing header of type 4 (RFC 8754) with one segment
		a := netip.MustParseAddr(value).As16()
		return unix.SetsockoptString(fd, unix.SOL_IPV6, unix.IPV6_RTHDR, string(append([]byte{0, 2, 4, 0, 0, 0, 0, 0}, a[:]...)))
	case "dstopts":
		return unix.SetsockoptString(fd, unix.SOL_IPV6, unix.IPV6_DSTOPTS, string([]byte{0, 0, 1, 4, 0, 0, 0, 0}))
	case "reuse":
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	case "fastopen":
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
	}
	panic("no option " + name)
}

func ignore(error) error { return nil }

// talk NETWORK FROM TO [OPTION…]: a connection, or a datagram, from an address ("-" for
// any) to another. It is done if an answer comes, which it says.
func talk(args []string) error {
	family, to, err := parsePlace(args[2])
	if err != nil {
		return err
	}
	kind := unix.SOCK_STREAM
	if args[0] == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := unix.Timeval{Sec: 1, Usec: 500000}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	for _, o := range args[3:] {
		if err := option(fd, o); err != nil {
			say("option %s", o)
			return err
		}
	}
	if args[1] != "-" {
		_, from, err := parsePlace(args[1])
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, from); err != nil {
			say("bind")
			return err
		}
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("x\n")); err != nil {
		return err
	}
	buf := make([]byte, 200)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("nothing")
	}
	say("%q", buf[:n])
	return nil
}

// source FROM TO: a datagram whose source IP_PKTINFO or IPV6_PKTINFO names.
func pktinfo(args []string) error {
	family, to, err := parsePlace(args[1])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	ignore(option(fd, "freebind"))
	from := netip.MustParseAddr(args[0])
	var control []byte
	if from.Is4() {
		control = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	} else {
		control = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
	if err := unix.Sendmsg(fd, []byte("x\n"), control, to, 0); err != nil {
		return err
	}
	n, err := unix.Read(fd, make([]byte, 100))
	if err == nil {
		say("%d bytes", n)
	}
	return err
}

// guess NETWORK COUNT: the relay's listener, from addresses that a peer of it may have.
func guess(args []string) error {
	for range number(args[1]) {
		r := rand.Uint64()
		from, to := fmt.Sprintf("%d.%d.%d.%d:%d", 240+r&7, r>>8&255, r>>16&255, r>>24&255, 1024+r>>32&0x7fff), "198.18.0.3:1"
		if args[0] == "tcp6" {
			from, to = fmt.Sprintf("[fd73:6278:0:1:%x::%x]:%d", r&0xffff, r>>16&0xffff, 1024+r>>32&0x7fff), "[fd73:6278::3]:1"
		}
		if err := talkQuickly(from, to); err == nil {
			return nil
		}
	}
	return errors.New("none")
}

func talkQuickly(from, to string) error {
	family, sa, _ := parsePlace(to)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	option(fd, "freebind")
	option(fd, "device=sbx0")
	_, local, err := parsePlace(from)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, local); err != nil {
		return err
	}
	unix.Connect(fd, sa)
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 2); n == 0 {
		return unix.ETIMEDOUT
	}
	unix.Write(fd, []byte("x\n"))
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20)
	if n, err := unix.Read(fd, make([]byte, 10)); err != nil || n <= 0 {
		return unix.ECONNRESET
	}
	return nil
}

// netlink WHAT: a request to change the sandbox's network (rtnetlink(7)).
func netlink(args []string) error {
	const index = 7351
	u32 := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	attr := func(kind uint16, value []byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
		return append(b, make([]byte, (4-len(b)%4)%4)...)
	}
	link := make([]byte, 16)
	binary.NativeEndian.PutUint32(link[4:], index)
	requests := map[string]struct {
		kind uint16
		body []byte
	}{
		"newaddr":  {unix.RTM_NEWADDR, append(append([]byte{unix.AF_INET, 24, 0, 0}, u32(index)...), attr(unix.IFA_LOCAL, []byte{10, 0, 0, 1})...)},
		"deladdr":  {unix.RTM_DELADDR, append(append([]byte{unix.AF_INET, 32, 0, 0}, u32(index)...), attr(unix.IFA_LOCAL, []byte{198, 18, 0, 2})...)},
		"newroute": {unix.RTM_NEWROUTE, append([]byte{unix.AF_INET, 8, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, 253, unix.RTN_UNICAST, 0, 0, 0, 0}, append(attr(unix.RTA_DST, []byte{10, 0, 0, 0}), attr(unix.RTA_OIF, u32(index))...)...)},
		"dellink":  {unix.RTM_DELLINK, link},
		"setlink":  {unix.RTM_NEWLINK, append(append([]byte{}, link...), attr(unix.IFLA_MTU, u32(100))...)},
		"newlink":  {unix.RTM_NEWLINK, append(make([]byte, 16), append(attr(unix.IFLA_IFNAME, []byte("x0\x00")), attr(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte("dummy\x00")))...)...)},
		"newrule":  {unix.RTM_NEWRULE, []byte{unix.AF_INET, 0, 0, 0, 200, 0, 0, 1, 0, 0, 0, 0}},
		"newneigh": {unix.RTM_NEWNEIGH, append(append([]byte{unix.AF_INET, 0, 0, 0}, append(u32(index), 0x80, 0, 0, 0)...), attr(unix.NDA_DST, []byte{198, 18, 0, 9})...)},
		"newqdisc": {unix.RTM_NEWQDISC, append(append([]byte{0, 0, 0, 0}, u32(index)...), append(append(u32(0), u32(0xffffffff)...), append(u32(0), attr(unix.TCA_KIND, []byte("pfifo\x00"))...)...)...)},
	}
	q := requests[args[0]]
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m := make([]byte, 16, 200)
	binary.NativeEndian.PutUint32(m, uint32(16+len(q.body)))
	binary.NativeEndian.PutUint16(m[4:], q.kind)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE)
	if err := unix.Sendto(fd, append(m, q.body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil || n < 20 {
		return err
	}
	if errno := -int32(binary.NativeEndian.Uint32(buf[16:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}

// queries ADDRESS COUNT: what is no DNS, or almost.
func queries(args []string) error {
	good := append([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03www\x07example\x03com\x00\x00\x01\x00\x01"...)
	u, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer u.Close()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range number(args[1]) {
		b := append([]byte{}, good...)
		switch i % 6 {
		case 0:
			b = b[:random.IntN(len(b))]
		case 1:
			b[4+random.IntN(8)] = byte(random.Uint32())
		case 2: // a name that points to itself
			b = append(b[:12], 0xc0, 0x0c, 0, 1, 0, 1)
		case 3:
			b = append(b, make([]byte, random.IntN(60000))...)
		case 4:
			b[12+random.IntN(len(b)-12)] ^= byte(1 + random.Uint32()%255)
		case 5:
			for j := range b {
				b[j] = byte(random.Uint32())
			}
		}
		u.Write(b)
		if i%20 != 0 {
			continue
		}
		c, err := net.DialTimeout("tcp", args[0], time.Second)
		if err != nil {
			continue
		}
		n := len(b)
		if i%40 == 0 {
			n = random.IntN(65536)
		}
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(n)), b...))
		c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		c.Read(make([]byte, 100))
		c.Close()
	}
	return nil
}
