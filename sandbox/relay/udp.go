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

// datagram is what a program's port sends to one remote, by a socket of the host's
// that is connected to that, so that answers come from nobody else.
type datagram struct {
	r    *Relay
	key  streamKey
	to   netip.AddrPort // as the program knows it
	fd   int
	rec  *Contact
	last time.Time
	// waiting are packets that came while it was decided.
	waiting [][]byte
	open    bool
	// quic, where it is not nil, is what is noted of a datagram that begins a connection of
	// QUIC: the address is a name's, and QUIC would hide which it is for.
	quic *network.Denied
	// answered says that the remote has sent something: then it is kept for longer.
	answered bool
}

const (
	// maxDatagrams bounds the sockets; the one that was used least recently goes.
	maxDatagrams = 512
	// unansweredIdle and answeredIdle are for how long a socket is kept that is not
	// used (RFC 4787, REQ-5).
	unansweredIdle = 30 * time.Second
	answeredIdle   = 300 * time.Second
	// maxWaiting bounds the packets of one datagram that wait for a decision.
	maxWaiting = 8
)

// vnetDatagrams is VIRTIO_NET_HDR_GSO_UDP_L4: several datagrams as one, of a size that
// stands in the header (UDP_SEGMENT in udp(7)).
const vnetDatagrams = 5

// each calls do for each datagram that a frame has. It puts the headers before each, over
// the one that was before.
func (f frame) each(do func(frame)) {
	size := int(binary.NativeEndian.Uint16(f.all[4:]))
	if f.all[1] != vnetDatagrams || size == 0 || len(f.l4) <= headUDP+size {
		do(f)
		return
	}
	n := len(f.b) - len(f.l4) + headUDP
	head := append([]byte(nil), f.b[:n]...)
	for b := f.b; len(b) > n; b = b[size:] {
		copy(b, head)
		one := f
		one.b = b[:min(len(b), n+size)]
		one.l4 = one.b[n-headUDP:]
		binary.BigEndian.PutUint16(one.l4[4:], uint16(len(one.l4)))
		if f.v6 {
			binary.BigEndian.PutUint16(one.b[4:], uint16(len(one.l4)))
		} else {
			binary.BigEndian.PutUint16(one.b[2:], uint16(len(one.b)))
		}
		do(one)
		if len(b) <= n+size {
			return
		}
	}
}

// udp handles a packet of UDP.
func (r *Relay) udp(f frame) {
	if f.src != plan.SandboxAddr && f.src != plan.SandboxAddr6 {
		return
	}
	if f.dst == plan.ResolverAddr {
		if f.dport() == 53 {
			r.query(f)
		} else {
			r.unreachable(f, unix.ECONNREFUSED)
		}
		return
	}
	key := streamKey{f.dst.As16(), f.dport(), f.sport()}
	d := r.datagrams[key]
	switch {
	case d != nil && d.open:
		d.send(f)
	case d != nil && len(d.waiting) < maxWaiting:
		d.waiting = append(d.waiting, r.copyOf(f))
	case d == nil && !r.closed:
		r.openDatagram(key, f)
	}
}

func (r *Relay) openDatagram(key streamKey, f frame) {
	if len(r.datagrams) >= maxDatagrams && !r.evict() {
		return
	}
	d := &datagram{r: r, key: key, to: netip.AddrPortFrom(f.dst, f.dport()), fd: -1, last: r.now}
	d.waiting = [][]byte{r.copyOf(f)}
	r.datagrams[key] = d
	r.decide(network.UDP, d.to, func(to *dest, errno unix.Errno) {
		if r.datagrams[key] != d {
			return
		}
		if errno == 0 {
			errno = d.connect(to)
		}
		waiting := d.waiting
		d.waiting = nil
		if errno != 0 {
			delete(r.datagrams, key)
		}
		for _, b := range waiting {
			switch f := r.restore(b); errno {
			case 0:
				d.send(f)
			case unix.EAGAIN, unix.EMFILE, unix.ENFILE:
				// Lost.
			default:
				r.unreachable(f, errno)
			}
		}
	})
}

func (d *datagram) connect(to *dest) unix.Errno {
	errno := unix.ENETUNREACH
	for _, addr := range to.addrs {
		family := unix.AF_INET
		if addr.Addr().Is6() {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			if err = unix.Connect(fd, sockaddrOf(addr)); err == nil {
				err = d.r.watch(fd, unix.EPOLLIN, d)
			}
			if err == nil {
				d.fd, d.open, d.rec = fd, true, d.r.record.allowed(to.flow(addr.Addr()))
				if d.r.checksHello(to) {
					d.quic = &network.Denied{Flow: to.flow(addr.Addr()), Reason: network.HidesName}
				}
				return 0
			}
			unix.Close(fd)
		}
		errno = errnoOf(err)
	}
	return errno
}

func (d *datagram) send(f frame) {
	d.last = d.r.now
	if d.quic != nil && network.BeginsQUIC(f.l4[headUDP:]) {
		d.r.record.Denied(d.quic)
		d.r.unreachable(f, unix.EACCES)
		return
	}
	if _, err := nonblock.Write(d.fd, f.l4[headUDP:]); err != nil {
		d.failed(err)
		return
	}
	d.rec.Up += uint64(len(f.l4) - headUDP)
}

// ready passes answers on.
func (d *datagram) ready(uint32) {
	for range batch {
		n, err := nonblock.Read(d.fd, d.r.buffer[:])
		if err != nil {
			d.failed(err)
			return
		}
		d.last, d.answered = d.r.now, true
		d.rec.Down += uint64(n)
		d.r.reply(d.to, d.key.local, d.r.buffer[:n])
	}
}

// failed tells the program of an error that the remote, or the network, has reported.
func (d *datagram) failed(err error) {
	errno := errnoOf(err)
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
	default:
		return // EAGAIN, EMSGSIZE and ENOBUFS: lost
	}
	to := plan.SandboxAddr
	if d.to.Addr().Is6() {
		to = plan.SandboxAddr6
	}
	// As if for the last packet: only its addresses and ports matter.
	b := make([]byte, header6+headUDP)
	p := build(b, unix.IPPROTO_UDP, to, d.to.Addr(), headUDP)
	udpHeader(p.l4, d.key.local, d.to.Port(), headUDP)
	d.r.unreachable(d.r.restore(p.b), errno)
}

// reply sends a program a datagram.
func (r *Relay) reply(from netip.AddrPort, port uint16, data []byte) {
	to, most := plan.SandboxAddr, 65535-header4-headUDP
	if from.Addr().Is6() {
		to, most = plan.SandboxAddr6, 65535-header6-headUDP
	}
	if len(data) > most {
		return
	}
	r.wire.send(r.wire.make(func(b []byte) packet {
		p := build(b, unix.IPPROTO_UDP, from.Addr(), to, headUDP+len(data))
		udpHeader(p.l4, from.Port(), port, headUDP+len(data))
		copy(p.l4[headUDP:], data)
		return p
	}))
}

func udpHeader(b []byte, sport, dport uint16, length int) {
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = 0, 0
}

// evict closes the datagram socket that was used least recently.
func (r *Relay) evict() bool {
	var oldest *datagram
	for _, d := range r.datagrams {
		if d.open && (oldest == nil || d.last.Before(oldest.last)) {
			oldest = d
		}
	}
	if oldest == nil {
		return false
	}
	r.closeDatagram(oldest)
	return true
}

func (r *Relay) closeDatagram(d *datagram) {
	r.drop(d.fd)
	delete(r.datagrams, d.key)
}

func (r *Relay) expireDatagrams() {
	for _, d := range r.datagrams {
		idle := unansweredIdle
		if d.answered {
			idle = answeredIdle
		}
		if d.open && r.now.Sub(d.last) > idle {
			r.closeDatagram(d)
		}
	}
}
