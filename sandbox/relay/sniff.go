package relay

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// agreed looks at what a program sends first, without taking it, until it is clear
// what it is. A server that speaks first is not held up.
func (c *conn) agreed() bool {
	s := &c.side[0]
	buf := c.r.buffer[:network.MaxHello]
	n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_PEEK)
	if err == unix.EINTR {
		n, _, err = unix.Recvfrom(s.fd, buf, unix.MSG_PEEK)
	}
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		c.reset()
		return false
	case n == 0: // it ends, and has said nothing
		c.look = nil
		return true
	}
	ok, wait := c.look(buf[:n], n == len(buf) || s.hup && ends(s.fd))
	switch {
	case wait:
		return false // more is an event
	case !ok:
		c.reset()
		return false
	}
	c.look = nil
	return true
}

// ends says whether no more is to come than can be read now.
func ends(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

// sniff makes the look at a connection to a name: where it is TLS, the name in it must
// be the same, as one server often has many.
func (r *Relay) sniff(d *dest, addr netip.Addr) func([]byte, bool) (bool, bool) {
	return func(first []byte, last bool) (agreed, wait bool) {
		name, state := network.ClientHello(first)
		switch state {
		case network.NotTLS:
			return true, false
		case network.NeedMore:
			if !last {
				return false, true
			}
		case network.HasName:
			if network.MatchSNI(name, d.name) {
				return true, false
			}
		}
		reason := "the TLS handshake is not for this name"
		if state == network.HasName {
			reason = "the TLS handshake is for another name"
			if policy.ValidName(name) {
				reason = "the TLS handshake is for " + name
			}
		}
		r.record.Denied(&network.Denied{Flow: d.flow(addr), Reason: reason})
		return false, false
	}
}
