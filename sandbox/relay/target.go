package relay

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// dest is where something really goes that a program sends to an address.
type dest struct {
	proto network.Proto
	// name is what the program asked for: exactly that where exact, else what the
	// address was last the answer to.
	name  string
	exact bool
	port  uint16
	// addrs are those that are allowed, in the order in which they are tried.
	addrs []netip.AddrPort
	// reached is the one that is connected.
	reached netip.Addr
	// proxy is the HTTP proxy that makes the connection; addrs are then the proxy's.
	proxy *network.Proxy
	// at, where it is valid, is what the proxy is told in place of the name.
	at netip.Addr
}

// rewritten says that the proxy gets the program's request in another form, instead of
// one for a connection.
func (d *dest) rewritten() bool { return d.proxy != nil && d.port == 80 && !d.at.IsValid() }

// flow is what is noted of it.
func (d *dest) flow(addr netip.Addr) network.Flow {
	f := network.Flow{Proto: d.proto, Name: d.name, Addr: addr, Port: d.port}
	if d.proxy != nil {
		f.Addr = netip.Addr{}
	}
	return f
}

// maxDeciding bounds what waits for a name server.
const maxDeciding = 512

// decide finds out where what a program sends to remote goes, and whether it may. done
// is called in the loop, at once or later: with an errno for the program where it may
// not, EACCES if by the policy.
func (r *Relay) decide(proto network.Proto, remote netip.AddrPort, done func(*dest, unix.Errno)) {
	d := &dest{proto: proto, port: remote.Port()}
	if !network.IsFake(remote.Addr()) {
		addrs, err := r.server.Reach(network.Flow{Proto: proto, Addr: remote.Addr(), Port: d.port})
		d.name = r.names.Learned(remote.Addr())
		done(d, r.permit(d, addrs, err))
		return
	}
	if d.name, d.exact = r.names.Name(remote.Addr()); !d.exact {
		done(d, unix.EHOSTUNREACH) // no name has it
		return
	}
	if r.deciding >= maxDeciding {
		done(d, unix.EAGAIN)
		return
	}
	if d.proxy = r.proxies.For(d.name, netip.Addr{}, d.port); d.proxy != nil {
		r.decideProxied(d, done)
		return
	}
	r.deciding++
	go func() {
		// The name is resolved again, and what the look-up has given does not count.
		addrs, err := r.server.Reach(network.Flow{Proto: proto, Name: d.name, Port: d.port})
		r.post(func() {
			r.deciding--
			done(d, r.permit(d, addrs, err))
		})
	}()
}

// permit takes over what Reach has found.
func (r *Relay) permit(d *dest, addrs []netip.Addr, err error) unix.Errno {
	var denied *network.Denied
	var errno unix.Errno
	switch {
	case err == nil:
		for _, a := range addrs {
			d.addrs = append(d.addrs, netip.AddrPortFrom(a, d.port))
		}
		return 0
	case errors.As(err, &denied):
		r.record.Denied(denied)
		return unix.EACCES
	case errors.As(err, &errno):
		return errno
	}
	return unix.EHOSTUNREACH // the name has no address now
}

// checksHello says that what a program sends first is looked at: a name was allowed,
// not all that the same server has.
func (r *Relay) checksHello(d *dest) bool { return d.exact && r.base != policy.Internet }

// begin decides about a flow, and makes its connection.
func (r *Relay) begin(fl *stream) {
	if fl.remote.Addr() == r.resolverAddr {
		if fl.remote.Port() != 53 {
			r.refuse(fl, unix.ECONNREFUSED)
			return
		}
		r.offer(fl)
		return
	}
	r.decide(network.TCP, fl.remote, func(d *dest, errno unix.Errno) {
		switch {
		case r.streams[keyOf(fl.remote, fl.local)] != fl:
		case errno == unix.EAGAIN:
			r.forget(fl) // as if the packet were lost; it comes again
		case errno != 0:
			r.refuse(fl, errno)
		default:
			fl.dest = d
			r.dialStream(fl)
		}
	})
}

func (r *Relay) dialStream(fl *stream) {
	d := r.connect(fl.dest.addrs, func(fd int, to netip.AddrPort, errno unix.Errno) {
		fl.dial = nil
		switch errno {
		case 0:
			fl.host, fl.dest.reached = fd, to.Addr()
			if fl.dest.proxy != nil && !fl.dest.rewritten() {
				r.askProxy(fl)
				return
			}
			r.offer(fl)
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL:
			r.forget(fl)
		default:
			r.refuse(fl, errno)
		}
	})
	if d.done != nil {
		fl.dial = d
		r.dialed = append(r.dialed, fl)
	}
}
