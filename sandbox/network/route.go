package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Route is what the host's kernel knows of an address. The zero value is a remote
// one.
type Route struct {
	// Own means that the host itself has the address.
	Own bool
	// Broadcast means that it is one of a network of the host's.
	Broadcast bool
	// OnLink means that it is on a network that the host is on: no gateway is between.
	// A tunnel that has all of the internet behind it is not such a network.
	OnLink bool
	// Unreachable is the error that connect(2) would give, 0 if there is a route.
	Unreachable unix.Errno
}

// Router asks the host's kernel for routes, by rtnetlink(7). One question takes
// some ten microseconds.
type Router struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// routeTimeout bounds one question. The kernel answers in the system call that
// asks, so it is never waited for, unless something is broken.
const routeTimeout = 200 * time.Millisecond

// OpenRouter opens the socket.
func OpenRouter() (*Router, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot open a socket for routes: %w", err)
	}
	tv := unix.NsecToTimeval(routeTimeout.Nanoseconds())
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot set up a socket for routes: %w", err)
	}
	return &Router{fd: fd, buf: make([]byte, 8192)}, nil
}

// Close closes the socket.
func (r *Router) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fd := r.fd
	r.fd = -1
	return unix.Close(fd)
}

// Lookup says where an address is. Of one that has an IPv4 address inside, to
// which packets go in the end, both are looked up. After an error nothing may be
// sent to the address.
func (r *Router) Lookup(a netip.Addr) (Route, error) {
	if !a.IsValid() || a.Zone() != "" {
		return Route{}, fmt.Errorf("cannot find a route to %q: it is no address that can be used here", a)
	}
	a = a.Unmap()
	r.mu.Lock()
	defer r.mu.Unlock()
	route, err := r.lookup(a)
	if err != nil {
		return Route{}, fmt.Errorf("cannot find a route to %s: %w", a, err)
	}
	if inner, ok := Embedded(a); ok {
		in, err := r.lookup(inner)
		if err != nil {
			return Route{}, fmt.Errorf("cannot find a route to %s, which is in %s: %w", inner, a, err)
		}
		route.Own = route.Own || in.Own
		route.Broadcast = route.Broadcast || in.Broadcast
		route.OnLink = route.OnLink || in.OnLink
	}
	return route, nil
}

// lookup asks for the entry of the routing table that applies (RTM_F_FIB_MATCH,
// Linux 4.13). Kernels before that give the resolved route whatever the flag, and
// some that are configured otherwise refuse it.
func (r *Router) lookup(a netip.Addr) (Route, error) {
	route, err := r.ask(a, unix.RTM_F_FIB_MATCH)
	if errors.Is(err, unix.EOPNOTSUPP) {
		route, err = r.ask(a, 0)
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // the kernel has no IPv6
		return Route{Unreachable: unix.EAFNOSUPPORT}, nil
	}
	return route, err
}

// ask sends one request and reads until its reply.
func (r *Router) ask(a netip.Addr, flags uint32) (Route, error) {
	r.seq++
	if err := unix.Sendto(r.fd, routeRequest(a, r.seq, flags), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Route{}, err
	}
	// Replies to earlier questions that have timed out come first.
	for range 64 {
		n, from, err := unix.Recvfrom(r.fd, r.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Route{}, err
		}
		// Other processes of the user can send to the socket, the kernel alone has port 0.
		if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
			continue
		}
		route, found, err := parseRoute(r.buf[:n], r.seq)
		if found || err != nil {
			return route, err
		}
	}
	return Route{}, errors.New("the kernel has sent other answers only")
}

// routeRequest is struct nlmsghdr, struct rtmsg and one attribute, RTA_DST:
//
//	struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid; };
//	struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; };
//	struct rtattr { u16 len; u16 type; };
func routeRequest(a netip.Addr, seq, flags uint32) []byte {
	addr := a.AsSlice()
	family := byte(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	e := binary.NativeEndian
	b := make([]byte, 0, unix.SizeofNlMsghdr+unix.SizeofRtMsg+unix.SizeofRtAttr+16)
	b = e.AppendUint32(b, uint32(unix.SizeofNlMsghdr+unix.SizeofRtMsg+unix.SizeofRtAttr+len(addr)))
	b = e.AppendUint16(b, unix.RTM_GETROUTE)
	b = e.AppendUint16(b, unix.NLM_F_REQUEST)
	b = e.AppendUint32(b, seq)
	b = e.AppendUint32(b, 0)
	b = append(b, family, byte(8*len(addr)), 0, 0, 0, 0, 0, 0)
	b = e.AppendUint32(b, flags)
	b = e.AppendUint16(b, uint16(unix.SizeofRtAttr+len(addr)))
	b = e.AppendUint16(b, unix.RTA_DST)
	return append(b, addr...)
}
