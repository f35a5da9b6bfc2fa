package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// Published is a port of the host's that leads into the sandbox.
type Published struct {
	// Addr is where the host listens.
	Addr netip.AddrPort
	// Port is the one inside.
	Port uint16
	fd   int
	auto bool
}

// String is what is shown of it.
func (p *Published) String() string { return fmt.Sprintf("%s -> %d", p.Addr, p.Port) }

// PublishError is a port that cannot be published.
type PublishError struct {
	Addr  netip.AddrPort
	Port  uint16
	Errno unix.Errno
	// Twice says that this run has the address already.
	Twice bool
}

func (e *PublishError) Error() string {
	cause := e.Errno.Error()
	switch {
	case e.Twice:
		cause = "another --publish has it already"
	case e.Errno == unix.EADDRINUSE:
		cause = "something on this machine listens there already"
	case e.Errno == unix.EACCES:
		cause = "ports below net.ipv4.ip_unprivileged_port_start are root's"
	case e.Errno == unix.EADDRNOTAVAIL:
		cause = "this machine does not have the address"
	}
	return fmt.Sprintf("cannot publish port %d at %s: %s", e.Port, e.Addr, cause)
}

func (e *PublishError) Unwrap() error { return e.Errno }

// Hint is a flag that works.
func (e *PublishError) Hint() string {
	if e.Errno == unix.EADDRNOTAVAIL {
		return fmt.Sprintf("--publish %d:%d", e.Addr.Port(), e.Port)
	}
	return fmt.Sprintf("--publish 0:%d   (any port that is free)", e.Port)
}

// Publish listens at the host's ports: before there is a sandbox, so that one that is
// taken is an error and nothing has happened.
func Publish(list []policy.Publish) ([]*Published, error) {
	var all []*Published
	for _, p := range list {
		if p.Auto {
			continue
		}
		at := netip.AddrPortFrom(p.Addr, p.Host)
		one, errno := publish(at, p.Sandbox)
		if errno != 0 {
			twice := slices.ContainsFunc(all, func(p *Published) bool { return p.Addr == at })
			for _, p := range all {
				p.Close()
			}
			return nil, &PublishError{at, p.Sandbox, errno, twice}
		}
		all = append(all, one)
	}
	return all, nil
}

func publish(at netip.AddrPort, port uint16) (*Published, unix.Errno) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errnoOf(err)
	}
	// What ended a moment ago does not keep the port (TIME_WAIT in tcp(7)).
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	err = unix.Bind(fd, sockaddrOf(at))
	if err == nil {
		err = unix.Listen(fd, 1024)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, errnoOf(err)
	}
	return &Published{Addr: addrPort(sa), Port: port, fd: fd}, 0
}

// Close ends it. It is for what no relay has.
func (p *Published) Close() { unix.Close(p.fd) }

// serve accepts the host's connections to a published port.
func (r *Relay) serve(p *Published) error {
	return r.accept(p.fd, func(fd int, _ netip.AddrPort) {
		if r.closed || len(r.guests)+len(r.entrances) >= maxGuests {
			abort(fd)
			return
		}
		r.guests = append(r.guests, guest{fd: fd, port: p.Port, since: r.now})
		r.lead()
	})
}

// guest is a connection from the host that waits for a socket of the sandbox's.
type guest struct {
	fd    int
	port  uint16
	tried int // of within
	since time.Time
}

const (
	// maxGuests bounds those that wait or are being connected, enterWithin the time for
	// that: a server that accepts nothing must not have sbx hold them for ever.
	maxGuests   = 1024
	enterWithin = 30 * time.Second
	// manySockets are made at once: that takes a process. Some are kept.
	manySockets = 32
	fewSockets  = 8
)

// lead connects guests with the sandbox, as far as there are sockets.
func (r *Relay) lead() {
	for len(r.guests) > 0 && len(r.inner) > 0 {
		g, fd := r.guests[0], r.inner[len(r.inner)-1]
		r.guests, r.inner = r.guests[1:], r.inner[:len(r.inner)-1]
		r.enter(g, fd)
	}
	if r.making || len(r.inner) >= fewSockets && len(r.guests) == 0 || r.closed {
		return
	}
	r.making = true
	go func() {
		fds, err := r.sockets(manySockets)
		if r.post(func() {
			r.making = false
			r.inner = append(r.inner, fds...)
			if err != nil {
				for _, g := range r.guests {
					abort(g.fd)
				}
				r.guests = nil
				return
			}
			r.lead()
		}) {
			return
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
}

// entrance is a guest's connection into the sandbox that is being made. Each address
// takes a new socket: one that has been IPv4's does not become IPv6's.
type entrance struct {
	r     *Relay
	guest guest
	fd    int
}

// within are the addresses at which a server inside may listen: for its localhost, of
// either protocol, or for the sandbox's address alone.
var within = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), plan.SandboxAddr, plan.SandboxAddr6}

// enter connects a guest by a socket to the next address.
func (r *Relay) enter(g guest, fd int) {
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	a := within[g.tried]
	to := sockaddrOf(netip.AddrPortFrom(a, g.port))
	if domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); domain == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)
		to = sockaddrOf(netip.AddrPortFrom(netip.AddrFrom16(a.As16()), g.port))
	}
	e := &entrance{r, g, fd}
	if err := r.watch(fd, edge, e); err != nil {
		unix.Close(fd)
		abort(g.fd)
		return
	}
	r.entrances[e] = struct{}{}
	switch err := unix.Connect(fd, to); err {
	case nil:
		e.done()
	case unix.EINPROGRESS:
	default:
		e.next()
	}
}

// expireEntrances gives up those that take too long.
func (r *Relay) expireEntrances() {
	for e := range r.entrances {
		if r.now.Sub(e.guest.since) > enterWithin {
			delete(r.entrances, e)
			r.drop(e.fd)
			abort(e.guest.fd)
		}
	}
}

// next tries the next address, if there is one.
func (e *entrance) next() {
	delete(e.r.entrances, e)
	e.r.drop(e.fd)
	if e.guest.tried++; e.guest.tried == len(within) {
		abort(e.guest.fd)
		return
	}
	e.r.guests = append(e.r.guests, e.guest)
	e.r.lead()
}

func (e *entrance) ready(uint32) {
	errno, err := unix.GetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno != 0 {
		e.next()
	} else if _, err := unix.Getpeername(e.fd); err == nil {
		e.done()
	}
}

func (e *entrance) done() {
	r := e.r
	if itself(e.fd, netip.AddrPortFrom(within[e.guest.tried], e.guest.port)) {
		e.next()
		return
	}
	delete(r.entrances, e)
	if err := r.watch(e.guest.fd, edge, nil); err != nil {
		abort(e.guest.fd)
		r.drop(e.fd)
		return
	}
	rec := &Contact{}
	r.join(e.fd, e.guest.fd, rec, nil).start()
}

// ports are those that are published now. Others than the loop may ask.
type ports struct {
	mu   sync.Mutex
	list []*Published
}

func (p *ports) add(one *Published) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, one)
}

func (p *ports) remove(one *Published) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(o *Published) bool { return o == one })
}

func (p *ports) has(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.list, func(o *Published) bool { return o.Port == port })
}

// Published are the ports that are published now, for people.
func (r *Relay) Published() []string {
	r.published.mu.Lock()
	defer r.published.mu.Unlock()
	var list []string
	for _, p := range r.published.list {
		list = append(list, p.String())
	}
	return list
}
