package relay

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// refuse tells the program why there is no connection, by what it would get from the
// network.
func (r *Relay) refuse(fl *stream, errno unix.Errno) {
	f := r.held(fl)
	r.forget(fl)
	switch errno {
	case unix.ETIMEDOUT:
		// Nothing was heard; the program's own system gives up about now.
	case unix.ECONNREFUSED, unix.ECONNRESET:
		r.reset(f)
	default:
		r.unreachable(f, errno)
		if len(r.timers) < maxRepeats {
			r.after(repeatAfter, func() { r.unreachable(r.held(fl), errno) })
		}
	}
}

const (
	// repeatAfter is when an error is told again: one that comes while connect(2) still
	// has the socket locked counts for nothing, and the program would wait a second, for
	// its SYN to be repeated (tcp_v4_err in net/ipv4/tcp_ipv4.c).
	repeatAfter = 2 * time.Millisecond
	// maxRepeats bounds how many wait.
	maxRepeats = 256
)

// reset answers a packet with a reset (RFC 9293, 3.10.7.1).
func (r *Relay) reset(f frame) {
	flags, seq, ack := f.flags(), binary.BigEndian.Uint32(f.l4[4:]), binary.BigEndian.Uint32(f.l4[8:])
	data := uint32(len(f.l4)) - uint32(f.l4[12]>>4)*4
	if flags&tcpSYN != 0 {
		data++
	}
	if flags&tcpFIN != 0 {
		data++
	}
	src, dst, sport, dport := f.dst, f.src, f.dport(), f.sport()
	r.wire.send(r.wire.make(func(b []byte) packet {
		p := build(b, unix.IPPROTO_TCP, src, dst, headTCP)
		t := p.l4
		clear(t)
		binary.BigEndian.PutUint16(t, sport)
		binary.BigEndian.PutUint16(t[2:], dport)
		t[12], t[13] = headTCP/4<<4, tcpRST
		if flags&tcpACK != 0 {
			binary.BigEndian.PutUint32(t[4:], ack)
		} else {
			t[13] |= tcpACK
			binary.BigEndian.PutUint32(t[8:], seq+data)
		}
		return p
	}))
}
