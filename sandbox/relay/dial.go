package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
)

// connecting is a connection that is being made, to the first of some addresses that answers.
type connecting struct {
	r     *Relay
	addrs []netip.AddrPort // not tried yet
	tried []*attempt
	errno unix.Errno // of the first that failed
	done  func(fd int, to netip.AddrPort, errno unix.Errno)
}

// attempt is a socket that is being connected.
type attempt struct {
	d  *connecting
	fd int
	to netip.AddrPort
}

// nextAfter is how long an address has before the next is tried beside it (RFC 8305).
const nextAfter = 250 * time.Millisecond

// connect makes a connection. done is called in the loop, mostly later: with a socket
// that is watched, or with the errno of connect(2). EMFILE says that there are no
// descriptors.
func (r *Relay) connect(addrs []netip.AddrPort, done func(fd int, to netip.AddrPort, errno unix.Errno)) *connecting {
	d := &connecting{r: r, addrs: addrs, done: done}
	r.dials++
	d.next()
	return d
}

// next tries the next address.
func (d *connecting) next() {
	for d.done != nil && len(d.addrs) > 0 {
		a := d.addrs[0]
		d.addrs = d.addrs[1:]
		errno := d.try(a)
		if errno == 0 {
			if len(d.addrs) > 0 {
				left := len(d.addrs)
				d.r.after(nextAfter, func() {
					if len(d.addrs) == left {
						d.next()
					}
				})
			}
			return
		}
		d.failed(errno)
	}
	if d.done != nil && len(d.tried) == 0 {
		d.end(-1, netip.AddrPort{}, d.errno)
	}
}

func (d *connecting) failed(errno unix.Errno) {
	if d.errno == 0 {
		d.errno = errno
	}
}

func (d *connecting) try(a netip.AddrPort) unix.Errno {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	// What is urgent is passed on in its place, not left out (tcp(7)).
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	if err := unix.Connect(fd, sockaddrOf(a)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return errnoOf(err)
	}
	t := &attempt{d, fd, a}
	if err := d.r.watch(fd, edge, t); err != nil {
		unix.Close(fd)
		return errnoOf(err)
	}
	d.tried = append(d.tried, t)
	return 0
}

// ready looks whether the socket is connected: only then is there room to write.
func (t *attempt) ready(events uint32) {
	d := t.d
	if d.done == nil || events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return
	}
	errno := int(unix.ECONNREFUSED)
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		var err error
		if errno, err = unix.GetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno == 0 {
			return // not yet
		}
	} else if !itself(t.fd, t.to) {
		d.remove(t)
		d.end(t.fd, t.to, 0)
		return
	}
	d.remove(t)
	d.r.drop(t.fd)
	d.failed(unix.Errno(errno))
	d.next()
}

// itself says whether a socket that is connected to an address has that address: where
// nobody listens at a port of those that the kernel takes for connections, it may take
// just that (RFC 9293, 3.5).
func itself(fd int, to netip.AddrPort) bool {
	a, err := nonblock.Name(fd)
	return err == nil && a.Port() == to.Port() && a.Addr().Unmap() == to.Addr().Unmap()
}

func (d *connecting) remove(t *attempt) {
	for i := range d.tried {
		if d.tried[i] == t {
			d.tried = append(d.tried[:i], d.tried[i+1:]...)
			return
		}
	}
}

func (d *connecting) end(fd int, to netip.AddrPort, errno unix.Errno) {
	done := d.done
	d.r.cancel(d)
	done(fd, to, errno)
}

// cancel gives a connection up; done is not called any more.
func (r *Relay) cancel(d *connecting) {
	if d.done == nil {
		return
	}
	d.done, d.addrs = nil, nil
	r.dials--
	for _, t := range d.tried {
		r.drop(t.fd)
	}
	d.tried = nil
}

func errnoOf(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EIO
}

func sockaddrOf(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort is what a socket address says.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
