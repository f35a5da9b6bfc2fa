package relay

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// Config is what a relay is told.
type Config struct {
	Base  policy.Network
	Rules []policy.NetRule
	// Publish are the ports that are published, Auto that all are at which something
	// inside listens, of which the sandbox with pid 1 PID knows.
	Publish []*Published
	Auto    bool
	PID     int
	// IPv6 says that the sandbox has IPv6.
	IPv6 bool
	// Getenv looks up the caller's environment, for proxies.
	Getenv func(string) string
	// ResolvConf and Hosts are the host's resolv.conf(5) and hosts(5), empty for those
	// in /etc.
	ResolvConf, Hosts string
	// Parts are what the sandbox has sent, by their descriptors.
	Parts map[int]plan.Part
	// Held are descriptors that are closed after those of the parts.
	Held []int
	// Sockets gives new sockets of the sandbox's network. It is called with 0 when no
	// more are wanted.
	Sockets func(n int) ([]int, error)
	// Denied is told of what is not allowed, each the first time. It is called from
	// several goroutines.
	Denied func(*network.Denied)
	// Published is told of ports that are published on the way.
	Published func(*Published)
}

// Relay connects a sandbox with the network, as far as its policy goes.
type Relay struct {
	base         policy.Network
	policy       *network.Policy
	names        *network.Names
	resolver     *network.Resolver
	server       *network.NameServer
	router       *network.Router
	proxies      network.Proxies
	record       *Record
	resolverAddr netip.Addr
	sockets      func(n int) ([]int, error)
	keep         []int

	wire     *wire
	epoll    int
	waiter   waiter
	wake     int
	spare    int
	handlers map[int32]handler
	dropped  []int
	buffer   [chunk]byte

	streams    map[streamKey]*stream
	peers      map[peerKey]*stream
	lingering  []*stream
	dialed     []*stream // in the order in which it began; some are done
	datagrams  map[streamKey]*datagram
	pings      map[pingKey]*ping
	conns      map[*conn]struct{}
	pending    []*side
	halves     []*side // that have ended since the last tick
	timers     timers
	pipes      pipes
	files      map[*os.File]struct{}
	heldBytes  int
	guests     []guest
	entrances  map[*entrance]struct{} // guests that are being connected
	inner      []int                  // sockets of the sandbox's network
	making     bool
	published  ports
	locals     map[uint16]bool // ports inside at which sbx listens for the host's localhost
	dials      int
	deciding   int
	asking     int
	queryConns int
	now        time.Time
	ticked     time.Time
	scanned    time.Time

	mu     sync.Mutex
	posted []func()

	closed  bool // no connection is begun any more
	drained uint64
	idle    time.Time // since when nothing has been taken
	until   time.Time
	ended   chan struct{}
}

// Start begins to relay. It takes the descriptors of the parts.
func Start(c Config) (*Relay, error) {
	now := time.Now()
	r := &Relay{
		base: c.Base, names: network.NewNames(), record: newRecord(c.Denied), resolverAddr: plan.ResolverAddr, sockets: c.Sockets, keep: c.Held,
		epoll: -1, wake: -1, spare: -1,
		handlers: map[int32]handler{}, streams: map[streamKey]*stream{}, peers: map[peerKey]*stream{}, datagrams: map[streamKey]*datagram{},
		pings: map[pingKey]*ping{}, conns: map[*conn]struct{}{}, files: map[*os.File]struct{}{}, locals: map[uint16]bool{}, entrances: map[*entrance]struct{}{},
		now: now, ticked: now, ended: make(chan struct{}),
	}
	if err := r.setup(c); err != nil {
		for _, p := range c.Publish {
			if r.handlers[int32(p.fd)] == nil {
				p.Close() // else who connects would wait
			}
		}
		for fd := range c.Parts {
			delete(r.handlers, int32(fd))
			unix.Close(fd)
		}
		r.release()
		return nil, err
	}
	go func() {
		r.run()
		r.release()
		close(r.ended)
	}()
	return r, nil
}

func (r *Relay) setup(c Config) (err error) {
	r.proxies, _ = network.ParseProxies(c.Getenv) // what cannot be used is said before
	r.policy = network.NewPolicy(c.Base, c.Rules, r.proxies.Any())
	r.resolver = network.NewResolver(c.ResolvConf, c.Hosts)
	r.resolver.IPv6 = c.IPv6
	if r.router, err = network.OpenRouter(); err != nil {
		return err
	}
	r.server = &network.NameServer{Policy: r.policy, Names: r.names, Resolver: r.resolver, Routes: r.router, Notes: r.record, IPv6: c.IPv6}
	if r.proxies.Any() {
		r.server.Proxied = func(name string) bool { return r.proxies.For(name, netip.Addr{}, 443) != nil }
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("cannot relay the network: epoll_create1(2): %w", err)
	}
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("cannot relay the network: eventfd(2): %w", err)
	}
	if r.spare, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("cannot open /dev/null: %w", err)
	}
	if err := r.watch(r.wake, unix.EPOLLIN, wakeup{r}); err != nil {
		return err
	}
	for fd, part := range c.Parts {
		if !part.Wire {
			// Those that are accepted there inherit it. No network is between them and the
			// program that could be congested; bbr, where the host has it, would only wait for
			// its clock.
			unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		}
		switch {
		case part.Wire:
			r.wire = newWire(fd)
			err = r.watch(fd, unix.EPOLLIN, packets{r})
		case part.Addr.Addr() == plan.RelayAddr || part.Addr.Addr() == plan.RelayAddr6:
			err = r.accept(fd, r.takeStream)
		default:
			port := part.Addr.Port()
			r.locals[port] = true
			err = r.accept(fd, func(fd int, _ netip.AddrPort) { r.takeLocal(fd, port) })
		}
		if err != nil {
			return fmt.Errorf("cannot relay the network: epoll_ctl(2): %w", err)
		}
	}
	for _, p := range c.Publish {
		if err := r.serve(p); err != nil {
			return err
		}
		r.published.add(p)
	}
	if c.Auto {
		r.auto(c.PID, c.Published)
	}
	return nil
}

// packets reads the wire.
type packets struct{ r *Relay }

func (p packets) ready(uint32) { p.read() }

// read handles some packets; more says that there may be others.
func (p packets) read() (more bool) {
	r := p.r
	for range batch {
		f, ok, err := r.wire.read()
		if err != nil {
			return false
		}
		if !ok {
			continue
		}
		switch f.proto {
		case unix.IPPROTO_TCP:
			r.tcp(f)
		case unix.IPPROTO_UDP:
			f.each(r.udp)
		case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
			r.icmp(f)
		}
	}
	return true
}

// catchUp reads what a turn has made by itself: the interface holds a thousand packets, and
// a reset that is lost does not come again. A flood from inside does not keep the loop here.
func (p packets) catchUp() {
	for range 8 {
		if !p.read() {
			return
		}
	}
}

// release closes everything.
func (r *Relay) release() {
	r.mu.Lock()
	r.wake = -1 // post must not write to another's
	r.mu.Unlock()
	for fd := range r.handlers {
		unix.Close(int(fd))
	}
	r.closeDropped()
	for _, fd := range r.inner {
		unix.Close(fd)
	}
	for _, g := range r.guests {
		abort(g.fd)
	}
	for e := range r.entrances {
		abort(e.guest.fd)
	}
	for f := range r.files {
		f.Close()
	}
	if r.sockets != nil {
		r.sockets(0)
	}
	r.pipes.close()
	for c := range r.conns {
		for i := range c.side {
			if p := c.side[i].pipe; p != nil {
				p.close()
			}
		}
	}
	if r.router != nil {
		r.router.Close()
	}
	for _, fd := range r.keep {
		unix.Close(fd)
	}
	if len(r.keep) > 0 {
		// The end of any such socket has the kernel look for those that nobody can reach
		// (unix_release_sock in net/unix/af_unix.c).
		if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}
	for _, fd := range []int{r.epoll, r.spare} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
