package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
	"github.com/sbx-build/sbx/sandbox/network"
)

// resolveWithin is how long the host may take to resolve a name that a proxy is asked
// for: behind a proxy, often nobody answers.
const resolveWithin = 2 * time.Second

// decideProxied decides about a connection that an HTTP proxy makes, which is told the
// name. Where the host can resolve it, that is decided about as without a proxy: the
// proxy may well be in the network that is to be kept from the sandbox. Where it
// cannot, the name must do; but a proxy on this machine would resolve it as this
// machine does, and a name that has an address for it alone must not lead to localhost:
// it is told the address that was decided about, as the name may have another by then.
func (r *Relay) decideProxied(d *dest, done func(*dest, unix.Errno)) {
	deny := func(err error) {
		var denied *network.Denied
		if errors.As(err, &denied) {
			r.record.Denied(denied)
		}
		done(d, unix.EACCES)
	}
	f := d.flow(netip.Addr{})
	if err := r.policy.AllowProxied(f); err != nil {
		deny(err)
		return
	}
	proxy := d.proxy
	r.deciding++
	go func() {
		own := r.addressesOf(proxy.Host)
		addrs := r.addressesOf(d.name)
		r.post(func() {
			r.deciding--
			here := r.onThisMachine(own)
			if len(addrs) > 0 {
				allowed, denied := r.server.Check(f, addrs)
				// Which one another machine's takes, is its choice.
				if len(allowed) == 0 || denied != nil && !here {
					deny(denied)
					return
				}
				if here {
					d.at = allowed[0]
				}
			} else if here && !r.policy.Named(f) {
				deny(network.Deny(f, "this machine cannot resolve it, and the proxy is on this machine"))
				return
			}
			for _, a := range own {
				d.addrs = append(d.addrs, netip.AddrPortFrom(a, proxy.Port))
			}
			if len(d.addrs) == 0 {
				done(d, unix.EHOSTUNREACH)
				return
			}
			done(d, 0)
		})
	}()
}

// addressesOf resolves a name, or reads an address, within a while.
func (r *Relay) addressesOf(host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}
	}
	if host == "localhost" {
		return []netip.Addr{within[0], within[1]}
	}
	found := make(chan []netip.Addr, 1)
	go func() {
		addrs, _ := r.resolver.Resolve(host)
		found <- addrs
	}()
	select {
	case addrs := <-found:
		return addrs
	case <-time.After(resolveWithin):
		return nil
	}
}

func (r *Relay) onThisMachine(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if route, err := r.router.Lookup(a); err != nil || route.Own || a.IsLoopback() {
			return true
		}
	}
	return false
}

// asking is a connection to a proxy that is asked for another.
type asking struct {
	r  *Relay
	fl *stream
	fd int
}

// proxyWithin is how long a proxy has to make a connection, about.
const proxyWithin = 60 * time.Second

// askProxy asks the proxy that a flow's socket is connected to for the connection. The
// program still waits.
func (r *Relay) askProxy(fl *stream) {
	target := fl.dest.name + ":" + strconv.Itoa(int(fl.dest.port))
	if fl.dest.at.IsValid() {
		target = netip.AddrPortFrom(fl.dest.at, fl.dest.port).String()
	}
	request, err := fl.dest.proxy.Connect(target)
	if err == nil {
		// A new socket takes a few hundred bytes.
		_, err = nonblock.Write(fl.host, request)
	}
	if err != nil {
		r.failProxy(fl)
		return
	}
	fl.asking, fl.last = true, r.now
	r.dials++ // one that a proxy makes is one, too
	a := &asking{r, fl, fl.host}
	r.handle(fl.host, a)
	a.ready(0)
}

// asked notes that nothing is asked of a proxy any more.
func (r *Relay) asked(fl *stream) {
	if fl.asking {
		fl.asking = false
		r.dials--
	}
}

func (r *Relay) failProxy(fl *stream) {
	r.asked(fl)
	r.drop(fl.host)
	fl.host = -1
	r.refuse(fl, unix.EHOSTUNREACH)
}

// fail gives the connection up, and notes that it was the proxy.
func (a *asking) fail(why string) {
	a.r.record.Denied(&network.Denied{Flow: a.fl.dest.flow(netip.Addr{}), Reason: "the proxy " + a.fl.dest.proxy.String() + " " + why})
	a.r.failProxy(a.fl)
}

// ready reads the proxy's answer, and not more: what comes behind it is the program's.
func (a *asking) ready(uint32) {
	fl := a.fl
	if !fl.asking {
		return
	}
	buf := a.r.buffer[:network.MaxConnectReply]
	n, _, err := unix.Recvfrom(a.fd, buf, unix.MSG_PEEK)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n <= 0 {
		a.fail("gives no answer")
		return
	}
	size, status, done, err := network.ConnectReply(buf[:n])
	switch {
	case err != nil:
		a.fail("answers what is no HTTP")
	case !done:
		if ends(a.fd) {
			a.fail("gives no answer")
		}
	case status/100 != 2:
		a.fail(fmt.Sprintf("answers %d", status))
	default:
		nonblock.Read(a.fd, buf[:size])
		a.r.asked(fl)
		a.r.offer(fl)
	}
}

// rewrite makes the look at a connection to port 80 of a name, which goes to an HTTP
// proxy as a request: many make no connection there. It is one request; a program that
// has more to ask connects again.
func (r *Relay) rewrite(c *conn, d *dest) func([]byte, bool) (bool, bool) {
	return func(first []byte, last bool) (agreed, wait bool) {
		request, done, err := d.proxy.RewriteRequest(first, d.name+":80")
		if err == nil && !done && !last {
			return false, true
		}
		if err != nil || !done {
			r.record.Denied(&network.Denied{Flow: d.flow(netip.Addr{}), Reason: "the proxy takes HTTP alone, in a form that cannot be mistaken"})
			return false, false
		}
		n, err := nonblock.Read(c.side[0].fd, r.buffer[:request.Read])
		if err != nil || n != request.Read {
			return false, false
		}
		// A new socket takes it whole.
		if n, err := nonblock.Write(c.side[1].fd, request.Head); err != nil || n != len(request.Head) {
			return false, false
		}
		*c.side[0].bytes += uint64(n)
		c.side[0].limited, c.side[0].limit = true, request.Body
		return true, false
	}
}
