package relay

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// Types and codes of ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443).
const (
	echoReply, echoRequest   = 0, 8
	echoRequest6, echoReply6 = 128, 129
	unreachable4             = 3
	unreachable6             = 1
)

// code is the code of an "unreachable" that makes Linux give a program that errno
// (icmp_err_convert in net/ipv4/icmp.c, tab_unreach in net/ipv6/icmp.c). What is not
// allowed gets "administratively prohibited". Of the codes for IPv4 these are the ones
// that count for UDP too, to which "network" or "host unreachable" say nothing. In IPv6
// none of the two counts for UDP (udpv6_err in net/ipv6/udp.c), neither here nor on the host;
// where the host has no way to IPv6 at all, the sandbox has no address of it, and the errno.
func code(errno unix.Errno, v6 bool) byte {
	switch {
	case errno == unix.ENETUNREACH && !v6:
		return 6
	case errno == unix.ENETUNREACH:
		return 0
	case errno == unix.EHOSTUNREACH && !v6:
		return 10
	case errno == unix.EHOSTUNREACH:
		return 3
	case errno == unix.ECONNREFUSED && !v6:
		return 3
	case errno == unix.ECONNREFUSED:
		return 4
	case v6:
		return 1
	}
	return 13
}

// unreachable answers a packet by saying why it does not get through. EACCES stands
// for what is not allowed, of which there is no errno that a program would get.
func (r *Relay) unreachable(f frame, errno unix.Errno) {
	src, from := f.src, plan.ResolverAddr
	proto := byte(unix.IPPROTO_ICMP)
	if f.v6 {
		from, proto = f.dst, unix.IPPROTO_ICMPV6
	}
	quote := append([]byte(nil), f.b[:min(len(f.b), len(f.b)-len(f.l4)+max(headTCP, headUDP))]...)
	r.wire.send(r.wire.make(func(b []byte) packet {
		p := build(b, proto, from, src, 8+len(quote))
		clear(p.l4[:8])
		p.l4[0], p.l4[1] = unreachable4, code(errno, false)
		if p.v6 {
			p.l4[0], p.l4[1] = unreachable6, code(errno, true)
		}
		copy(p.l4[8:], quote)
		p.sumICMP()
		return p
	}))
}

// sumICMP puts in the checksum, which of ICMP is not left to the kernel.
func (p *packet) sumICMP() {
	p.l4[2], p.l4[3] = 0, 0
	s := uint32(0)
	if p.v6 {
		s = p.pseudo()
	}
	binary.BigEndian.PutUint16(p.l4[2:], ^fold(sum(p.l4, s)))
}

// ping is a program's echo requests to one address, by a socket of the host's (icmp(7))
// that has an identifier of its own.
type ping struct {
	r    *Relay
	key  pingKey
	fd   int
	id   uint16
	rec  *Contact
	last time.Time
}

type pingKey struct {
	addr netip.Addr
	id   uint16
}

const (
	maxPings = 64
	pingIdle = 30 * time.Second
)

// icmp handles a packet of ICMP: echo requests.
func (r *Relay) icmp(f frame) {
	want := byte(echoRequest)
	if f.v6 {
		want = echoRequest6
	}
	if f.src != plan.SandboxAddr && f.src != plan.SandboxAddr6 || f.l4[0] != want || f.l4[1] != 0 {
		return
	}
	key := pingKey{f.dst, binary.BigEndian.Uint16(f.l4[4:])}
	if f.dst == plan.ResolverAddr {
		r.pong(key, f.dst, f.l4[4:])
		return
	}
	if p := r.pings[key]; p != nil {
		p.send(f.l4)
		return
	}
	if len(r.pings) >= maxPings {
		return
	}
	held := r.copyOf(f)
	r.decide(network.Ping, netip.AddrPortFrom(f.dst, 0), func(d *dest, errno unix.Errno) {
		if errno == 0 && r.pings[key] == nil {
			errno = r.startPing(key, d)
		}
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			r.unreachable(r.restore(held), errno)
		} else if p := r.pings[key]; p != nil {
			p.send(r.restore(held).l4)
		}
	})
}

func (r *Relay) startPing(key pingKey, d *dest) unix.Errno {
	addr := d.addrs[0]
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if addr.Addr().Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	if addr.Addr().Is6() != key.addr.Is6() {
		return unix.ENETUNREACH // the other protocol's echo is another packet
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return unix.EACCES // the host does not permit it
	}
	p := &ping{r: r, key: key, fd: fd, id: key.id, rec: r.record.allowed(d.flow(addr.Addr())), last: r.now}
	if err = unix.Connect(fd, sockaddrOf(addr)); err == nil {
		err = r.watch(fd, unix.EPOLLIN, p)
	}
	if err != nil {
		unix.Close(fd)
		return errnoOf(err)
	}
	r.pings[key] = p
	return 0
}

func (p *ping) send(request []byte) {
	p.last = p.r.now
	if n, err := nonblock.Write(p.fd, request); err == nil {
		p.rec.Up += uint64(n)
	}
}

// ready passes on replies.
func (p *ping) ready(uint32) {
	for range batch {
		n, err := nonblock.Read(p.fd, p.r.buffer[:])
		if err == unix.EAGAIN || n < headPCM {
			return
		}
		p.rec.Down += uint64(n)
		p.r.pong(p.key, p.key.addr, p.r.buffer[4:n])
	}
}

// pong sends a program a reply: what stands in the request, after the checksum.
func (r *Relay) pong(key pingKey, from netip.Addr, body []byte) {
	to, proto, kind := plan.SandboxAddr, byte(unix.IPPROTO_ICMP), byte(echoReply)
	if from.Is6() {
		to, proto, kind = plan.SandboxAddr6, unix.IPPROTO_ICMPV6, echoReply6
	}
	if len(body) > 65535-header6-4 { // as much as there is room for
		return
	}
	r.wire.send(r.wire.make(func(b []byte) packet {
		p := build(b, proto, from, to, 4+len(body))
		p.l4[0], p.l4[1] = kind, 0
		copy(p.l4[4:], body)
		binary.BigEndian.PutUint16(p.l4[4:], key.id)
		p.sumICMP()
		return p
	}))
}

func (r *Relay) expirePings() {
	for key, p := range r.pings {
		if r.now.Sub(p.last) > pingIdle {
			r.drop(p.fd)
			delete(r.pings, key)
		}
	}
}

// copyOf keeps a packet beyond its turn, restore makes it one again.
func (r *Relay) copyOf(f frame) []byte { return append([]byte(nil), f.b...) }

func (r *Relay) restore(b []byte) frame {
	return r.wire.make(func(room []byte) packet {
		p, _ := parse(room[:copy(room, b)])
		return p
	})
}
