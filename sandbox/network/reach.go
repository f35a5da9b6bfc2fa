package network

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Reach gives the addresses that may be connected to for a flow: its own, or if it
// has a name those that the name has now. They are to be connected to as they are,
// and at once. If there are none, the error is a *Denied, a *ResolveError, or the errno
// that connect(2) would give. The flow's own address counts only without a name.
//
// It blocks until the name is resolved.
func (s *NameServer) Reach(f Flow) ([]netip.Addr, error) {
	addrs := []netip.Addr{f.Addr.Unmap()}
	if f.Name != "" {
		var err error
		if addrs, err = s.Resolver.Resolve(f.Name); err != nil {
			return nil, err
		}
	}
	allowed, denied := s.allowed(f, addrs)
	if len(allowed) == 0 {
		return nil, denied
	}
	var unreachable unix.Errno
	reachable := allowed[:0]
	for _, a := range allowed {
		if a.errno == 0 {
			reachable = append(reachable, a)
		} else if unreachable == 0 {
			unreachable = a.errno
		}
	}
	if len(reachable) == 0 {
		return nil, unreachable
	}
	return plain(reachable), nil
}

// Check picks the addresses that a flow may go to. The error is a *Denied, about the
// first other one; nil if there is none.
func (s *NameServer) Check(f Flow, addrs []netip.Addr) ([]netip.Addr, error) {
	allowed, denied := s.allowed(f, addrs)
	if denied != nil {
		return plain(allowed), denied
	}
	return plain(allowed), nil
}

// place is an address that the policy allows, and whether there is a route to it.
type place struct {
	addr  netip.Addr
	errno unix.Errno
}

func plain(places []place) []netip.Addr {
	addrs := make([]netip.Addr, len(places))
	for i, p := range places {
		addrs[i] = p.addr
	}
	return addrs
}

// allowed picks the addresses that a flow may go to. If there are none, denied says
// why the first is not one.
func (s *NameServer) allowed(f Flow, addrs []netip.Addr) (allowed []place, denied *Denied) {
	for _, a := range addrs {
		f.Addr = a
		route, err := s.Routes.Lookup(a)
		if err != nil {
			err = &Denied{Flow: f, Reason: err.Error()}
		} else {
			err = s.Policy.Allow(f, route)
		}
		if err == nil {
			allowed = append(allowed, place{a, route.Unreachable})
		} else if denied == nil {
			errors.As(err, &denied)
		}
	}
	return allowed, denied
}
