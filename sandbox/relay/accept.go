package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
	"github.com/sbx-build/sbx/sandbox/network"
)

// keepIdle is after how many seconds of silence a program is asked whether it lives.
const keepIdle = 60

// listener accepts connections for the relay.
type listener struct {
	r    *Relay
	fd   int
	take func(fd int, from netip.AddrPort)
}

// accept begins to accept connections at a socket that listens.
func (r *Relay) accept(fd int, take func(fd int, from netip.AddrPort)) error {
	// Those that are accepted inherit it.
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	// A reset of a program that has died may be lost among thousands. When it is asked
	// whether it lives, its system sends another.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
	return r.watch(fd, unix.EPOLLIN, &listener{r, fd, take})
}

// ready accepts one. If there are more, there is another event.
func (l *listener) ready(uint32) {
	fd, from, err := nonblock.Accept(l.fd)
	switch err {
	case nil:
		l.take(fd, from)
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		if !l.r.refuseOne(l.fd) {
			l.rest()
		}
	}
}

// restFor is how long a listener is left alone that nothing can be accepted from.
const restFor = 100 * time.Millisecond

// rest keeps the loop from being told again and again of what it can do nothing about.
func (l *listener) rest() {
	turn := func(events uint32) {
		unix.EpollCtl(l.r.epoll, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: events, Fd: int32(l.fd)})
	}
	turn(0)
	l.r.after(restFor, func() {
		if l.r.handlers[int32(l.fd)] == l {
			turn(unix.EPOLLIN)
		}
	})
}

// refuseOne accepts a connection and resets it, by a descriptor that is kept for when
// there are no others: the queue would otherwise never become empty.
func (r *Relay) refuseOne(listening int) bool {
	unix.Close(r.spare)
	fd, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
	if err == nil {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
	r.spare, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return err == nil
}

// abort closes a socket that is not watched with a reset.
func abort(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

// takeStream takes a connection that a program has completed: one of those that were
// offered. Programs can see their addresses (/proc/net/tcp) and not be one of them: IPv4
// sends nothing from an address that is not its own, and what is answered to one that
// IPv6 lets a program have (IPV6_FREEBIND) goes by sbx to the program that was meant.
func (r *Relay) takeStream(fd int, from netip.AddrPort) {
	fl := r.peers[peerOf(from)]
	if fl == nil || fl.state != streamOffered {
		abort(fd)
		return
	}
	fl.state = streamConnected
	if fl.dest == nil {
		r.serveQueries(fd)
		return
	}
	host := fl.host
	fl.host = -1
	if err := r.watch(fd, edge, nil); err != nil {
		abort(fd)
		r.drop(host)
		return
	}
	remote := fl.dest.reached
	rec := r.record.allowed(fl.dest.flow(remote))
	c := r.join(fd, host, rec, nil)
	switch {
	case fl.dest.rewritten():
		c.look = r.rewrite(c, fl.dest)
	case r.checksHello(fl.dest):
		c.look = r.sniff(fl.dest, remote)
	}
	c.start()
}

// takeLocal takes a connection to a port of the host's localhost, which a rule allows. What
// a program sends to its own localhost is no packet that sbx could hold, so it is connected
// before the host's port is, and where nobody listens there it gets a reset.
func (r *Relay) takeLocal(fd int, port uint16) {
	if r.closed || r.dials >= maxDials {
		abort(fd)
		return
	}
	to := []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		netip.AddrPortFrom(netip.IPv6Loopback(), port),
	}
	r.connect(to, func(host int, _ netip.AddrPort, errno unix.Errno) {
		if errno != 0 {
			abort(fd)
			return
		}
		if err := r.watch(fd, edge, nil); err != nil {
			abort(fd)
			r.drop(host)
			return
		}
		r.join(fd, host, r.record.allowed(network.Flow{Name: "localhost", Port: port}), nil).start()
	})
}
