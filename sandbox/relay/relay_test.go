package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// cable is a relay, and in place of the sandbox's interface a socket pair that keeps
// the bounds of packets.
type cable struct {
	t    testing.TB
	r    *Relay
	fd   int
	seen [room]byte
}

func newCable(t testing.TB, base policy.Network, allow ...string) *cable {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	}
	var rules []policy.NetRule
	for _, s := range allow {
		rule, err := policy.ParseNetAllow(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, rule)
	}
	r, err := Start(Config{
		Base: base, Rules: rules, IPv6: true, Getenv: func(string) string { return "" },
		Parts: map[int]plan.Part{fds[0]: {Wire: true}}, ResolvConf: "/dev/null", Hosts: "/dev/null",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, r: r, fd: fds[1]}
	t.Cleanup(func() {
		unix.Close(c.fd)
		r.Close()
	})
	return c
}

// send is what the sandbox sends.
func (c *cable) send(packet []byte) {
	c.t.Helper()
	for {
		_, err := unix.Write(c.fd, append(make([]byte, virtio), packet...))
		switch err {
		case nil:
			return
		case unix.EAGAIN:
			time.Sleep(time.Millisecond)
		default:
			c.t.Fatal(err)
		}
	}
}

// receive is the next packet that the sandbox gets, within a while.
func (c *cable) receive(wait time.Duration) (packet, bool) {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	for err == unix.EINTR {
		n, err = unix.Poll(fds, int(wait.Milliseconds()))
	}
	if n == 0 {
		return packet{}, false
	}
	n, err = unix.Read(c.fd, c.seen[:])
	if err != nil || n < virtio {
		c.t.Fatalf("read: %d, %v", n, err)
	}
	p, ok := parse(c.seen[virtio:n])
	if !ok {
		c.t.Fatalf("the sandbox gets what is no packet: %x", c.seen[virtio:n])
	}
	return p, true
}

// must is receive where a packet has to come.
func (c *cable) must(what string) packet {
	c.t.Helper()
	p, ok := c.receive(5 * time.Second)
	if !ok {
		c.t.Fatalf("%s: the sandbox gets nothing", what)
	}
	return p
}

func from(port uint16) netip.AddrPort  { return netip.AddrPortFrom(plan.SandboxAddr, port) }
func from6(port uint16) netip.AddrPort { return netip.AddrPortFrom(plan.SandboxAddr6, port) }

// listenHost listens at an address of the host's own, and gives its port.
func listenHost(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{})
	}
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, netip.AddrPortFrom(hostAddr(t), addrPort(sa).Port())
}

// hostAddr is an address of this machine's that is not a loopback one.
func hostAddr(t *testing.T) netip.Addr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{203, 0, 113, 1}}); err != nil {
		t.Skipf("this machine has no route: %v", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addrPort(sa).Addr()
}

// about gives the answer about a packet to an address: each is told twice, and the second
// time of one before may come first.
func (c *cable) about(what string, to netip.Addr) packet {
	c.t.Helper()
	for {
		p := c.must(what)
		var q netip.Addr
		switch p.proto {
		case unix.IPPROTO_ICMP:
			q = netip.AddrFrom4([4]byte(p.l4[8+16:]))
		case unix.IPPROTO_ICMPV6:
			q = netip.AddrFrom16([16]byte(p.l4[8+24:]))
		}
		if q == to {
			return p
		}
	}
}

// A connection that is not allowed gets an answer at once, by which a program knows.
func TestRelayDenies(t *testing.T) {
	c := newCable(t, policy.Internet)
	for _, tt := range []string{"127.0.0.1:22", "0.0.0.0:22", "10.1.2.3:22", "192.168.1.1:80", "169.254.169.254:80", "100.64.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "240.1.2.3:1", "198.18.0.2:1"} {
		to := netip.MustParseAddrPort(tt)
		c.send(segment(from(1000), to, tcpSYN, ""))
		p := c.about(tt, to.Addr())
		if p.proto != unix.IPPROTO_ICMP || p.l4[0] != 3 || p.dst != plan.SandboxAddr {
			t.Errorf("%s: the sandbox gets protocol %d, %x", tt, p.proto, p.l4)
		}
	}
	for _, tt := range []string{"[::1]:22", "[fe80::1]:22", "[fd00::1]:1", "[ff02::1]:1", "[64:ff9b::7f00:1]:22", "[2002:7f00:1::]:22", "[fd73:6278::3]:1"} {
		c.send(segment(from6(1000), netip.MustParseAddrPort(tt), tcpSYN, ""))
		p := c.about(tt, netip.MustParseAddrPort(tt).Addr())
		if p.proto != unix.IPPROTO_ICMPV6 || p.l4[0] != 1 || p.dst != plan.SandboxAddr6 {
			t.Errorf("%s: the sandbox gets protocol %d, %x", tt, p.proto, p.l4)
		}
		if fold(sum(p.l4, p.pseudo())) != 0xffff {
			t.Errorf("%s: the checksum is not right", tt)
		}
	}
}

// Packets from any other address than the sandbox's are nobody's, and those that are
// part of no connection are reset.
func TestRelayStrangers(t *testing.T) {
	c := newCable(t, policy.Internet)
	to := netip.MustParseAddrPort("192.0.2.1:80")
	for _, src := range []string{"198.18.0.3:1", "198.18.0.1:53", "10.0.0.1:1000", "127.0.0.1:1000", "240.1.2.3:4"} {
		c.send(segment(netip.MustParseAddrPort(src), to, tcpSYN, ""))
		c.send(segment(netip.MustParseAddrPort(src), to, tcpACK, "x"))
	}
	c.send(segment(netip.MustParseAddrPort("[fd00::5]:1"), netip.MustParseAddrPort("[2001:db8::1]:80"), tcpSYN, ""))
	c.send(segment(from(1000), to, tcpRST, "")) // not answered, by nobody (RFC 9293, 3.10.7.1)
	if p, ok := c.receive(200 * time.Millisecond); ok {
		t.Fatalf("a stranger gets an answer: %+v", p)
	}
	c.send(segment(from(1000), to, tcpACK, "data"))
	p := c.must("a stray segment")
	if p.proto != unix.IPPROTO_TCP || p.flags() != tcpRST || p.src != to.Addr() || p.sport() != 80 || p.dst != plan.SandboxAddr || p.dport() != 1000 {
		t.Errorf("a stray segment gets %+v", p)
	}
}

// A program learns what has happened: a port where nobody listens resets, one where
// somebody does gets the packet, as from an address that cannot be guessed.
func TestRelayConnects(t *testing.T) {
	_, at := listenHost(t)
	c := newCable(t, policy.None, at.Addr().String())
	c.send(segment(from(1000), at, tcpSYN, ""))
	p := c.must("a SYN")
	to := netip.AddrPortFrom(plan.RelayAddr, plan.RelayPort)
	if p.proto != unix.IPPROTO_TCP || p.flags() != tcpSYN || p.dst != to.Addr() || p.dport() != to.Port() || p.src.As4()[0]&0xf8 != 240 {
		t.Fatalf("the listening socket gets %+v", p)
	}
	peer := netip.AddrPortFrom(p.src, p.sport())

	// Its answer goes to the program, as from whom it wanted.
	c.send(segment(to, peer, tcpSYN|tcpACK, ""))
	p = c.must("the answer")
	if p.src != at.Addr() || p.sport() != at.Port() || p.dst != plan.SandboxAddr || p.dport() != 1000 || p.flags() != tcpSYN|tcpACK {
		t.Errorf("the program gets %+v", p)
	}

	// From another port of the same address it is nobody's.
	c.send(segment(netip.AddrPortFrom(plan.RelayAddr, 2), peer, tcpACK, "x"))
	// To a peer that was not given out, too.
	c.send(segment(to, netip.AddrPortFrom(peer.Addr(), peer.Port()^1), tcpACK, "x"))
	if p, ok := c.receive(200 * time.Millisecond); ok {
		t.Errorf("the sandbox gets %+v", p)
	}

	c.send(segment(from(1001), netip.AddrPortFrom(at.Addr(), closedPort(t)), tcpSYN, ""))
	p = c.must("a SYN to a closed port")
	if p.proto != unix.IPPROTO_TCP || p.flags() != tcpRST|tcpACK || binary.BigEndian.Uint32(p.l4[8:]) != 1001 {
		t.Errorf("a closed port gives %+v", p)
	}
}

// A connection that sbx itself cannot take, for want of a descriptor, leaves none behind.
func TestRelayResets(t *testing.T) {
	_, at := listenHost(t)
	c := newCable(t, policy.None, at.Addr().String())
	count := func() (n int) {
		c.r.do(func() { n = len(c.r.handlers) + len(c.r.streams) + len(c.r.peers) + c.r.dials })
		return n
	}
	before := count()
	c.send(segment(from(1000), at, tcpSYN, ""))
	p := c.must("a SYN")
	c.send(segment(netip.AddrPortFrom(plan.RelayAddr, plan.RelayPort), netip.AddrPortFrom(p.src, p.sport()), tcpRST, ""))
	if p = c.must("the reset"); p.flags() != tcpRST || p.dport() != 1000 {
		t.Errorf("the program gets %+v", p)
	}
	if n := count(); n != before {
		t.Errorf("%d things are left", n-before)
	}
}

func closedPort(t *testing.T) uint16 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addrPort(sa).Port()
}

// A flood of connections that go nowhere costs what is bounded, and the next one still
// gets through.
func TestRelayFlood(t *testing.T) {
	_, at := listenHost(t)
	// To an address that does not answer: of a range that is routed to nobody.
	c := newCable(t, policy.None, at.Addr().String(), "203.0.113.0/24")
	for port := range 20000 {
		c.send(segment(from(uint16(port+1)), netip.MustParseAddrPort("203.0.113.254:9"), tcpSYN, ""))
		for {
			if _, ok := c.receive(0); !ok {
				break
			}
		}
	}
	c.send(segment(from(60000), at, tcpSYN, ""))
	for deadline := time.Now().Add(10 * time.Second); ; {
		p, ok := c.receive(time.Until(deadline))
		if !ok {
			t.Fatal("a connection does not get through")
		}
		if p.proto == unix.IPPROTO_TCP && p.dst == plan.RelayAddr {
			break
		}
	}
	done := make(chan [2]int)
	c.r.post(func() { done <- [2]int{len(c.r.streams), c.r.dials} })
	if n := <-done; n[0] > maxStreams || n[1] > maxDials {
		t.Errorf("%d connections are known, %d being made", n[0], n[1])
	}
}

// No packets, in whatever order, make the relay fail, or answer to an address that is
// not the sandbox's or its own.
func FuzzRelay(f *testing.F) {
	f.Add(segment(from(1000), netip.MustParseAddrPort("127.0.0.1:22"), tcpSYN, ""), segment(from(1000), netip.MustParseAddrPort("127.0.0.1:22"), tcpACK, "x"))
	f.Add(segment(from(1000), netip.MustParseAddrPort("198.18.0.1:53"), tcpSYN, ""), []byte{0x60})
	c := newCable(f, policy.Internet)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c.t = t
		for _, p := range [][]byte{a, b} {
			if len(p) < room-virtio {
				c.send(p)
			}
		}
		for {
			p, ok := c.receive(0)
			if !ok {
				return
			}
			switch p.dst {
			case plan.SandboxAddr, plan.SandboxAddr6, plan.RelayAddr, plan.RelayAddr6:
			default:
				t.Fatalf("a packet goes to %s", p.dst)
			}
		}
	})
}

// A remote may answer a ping with more than it was asked, up to what IPv6 can carry.
func TestPongLong(t *testing.T) {
	c := newCable(t, policy.None)
	for _, a := range []netip.Addr{plan.ResolverAddr, netip.MustParseAddr("2600:1::1")} {
		for _, n := range []int{8, 1 << 15, 65491, 65507, 65511, 65531, chunk} {
			c.r.do(func() { c.r.pong(pingKey{a, 7}, a, make([]byte, n)) })
			if _, ok := c.receive(50 * time.Millisecond); ok != (n <= 65491) {
				t.Errorf("%d bytes from %s: %v", n, a, ok)
			}
		}
	}
}
