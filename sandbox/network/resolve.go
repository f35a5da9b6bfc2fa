package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sbx-build/sbx/sandbox/policy"
)

const (
	// Addresses are kept for as long as their TTL says, within these bounds, because
	// a look-up is followed by a connection, which wants them again.
	minKeep = 5 * time.Second
	maxKeep = 60 * time.Second
	maxKept = 1024
)

// Resolver asks the host's name servers, as a program on the host would: first
// /etc/hosts, then the servers of /etc/resolv.conf in their order. Name services
// that only the C library knows (nsswitch.conf(5)) are not asked.
type Resolver struct {
	// IPv6 says whether the host reaches IPv6 addresses, so that they are asked for.
	IPv6 bool

	inFlight chan struct{}
	port     uint16

	mu        sync.Mutex
	conf      file
	servers   servers
	hostsFile file
	hosts     map[string][]netip.Addr
	kept      map[string]keptAddrs
}

type keptAddrs struct {
	addrs []netip.Addr
	until time.Time
}

// NewResolver makes one that reads these files; an empty path means the host's.
func NewResolver(conf, hosts string) *Resolver {
	if conf == "" {
		conf = "/etc/resolv.conf"
	}
	if hosts == "" {
		hosts = "/etc/hosts"
	}
	return &Resolver{
		conf: file{path: conf}, hostsFile: file{path: hosts}, port: 53,
		inFlight: make(chan struct{}, maxInFlight), kept: map[string]keptAddrs{},
	}
}

// ResolveError is a name that could not be resolved.
type ResolveError struct {
	Name string
	// RCode is what the name servers say: RCodeNameError, or RCodeSuccess for a name
	// that exists and has no such records. RCodeServerFailure if there was no answer.
	RCode dnsmessage.RCode
	// Cause is why there was no answer.
	Cause error
}

func (e *ResolveError) Error() string {
	why := "the name server answers " + strings.TrimPrefix(e.RCode.String(), "RCode")
	switch {
	case e.Cause != nil:
		why = e.Cause.Error()
	case e.RCode == dnsmessage.RCodeNameError:
		why = "there is no such name"
	case e.RCode == dnsmessage.RCodeSuccess:
		why = "it has no addresses"
	}
	return fmt.Sprintf("cannot resolve %q: %s", e.Name, why)
}

func (e *ResolveError) Unwrap() error { return e.Cause }

// Hosts gives the addresses that the host's /etc/hosts has for a name.
func (r *Resolver) Hosts(name string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, changed := r.hostsFile.fresh(); changed {
		r.hosts = parseHosts(b)
	}
	return slices.Clone(r.hosts[name])
}

// Resolve gives the addresses of a name, IPv4 first. A name without a dot is looked
// for in the domains that the host searches. The error is a *ResolveError. Whether one
// of the addresses may be connected to is not its business.
func (r *Resolver) Resolve(name string) ([]netip.Addr, error) {
	if addrs := r.Hosts(name); len(addrs) > 0 {
		return addrs, nil
	}
	if addrs := r.remembered(name); len(addrs) > 0 {
		return addrs, nil
	}
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // RFC 6761, section 6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	case !strings.Contains(name, "."):
		for _, domain := range r.configured().search {
			if addrs, err := r.resolve(name + "." + domain); err == nil {
				r.remember(name, addrs, nil)
				return addrs, nil
			}
		}
	}
	return r.resolve(name)
}

// resolve asks for both kinds of addresses at once.
func (r *Resolver) resolve(name string) ([]netip.Addr, error) {
	type result struct {
		reply Reply
		err   error
	}
	six := make(chan result, 1)
	if r.IPv6 {
		go func() {
			reply, err := r.Query(name, dnsmessage.TypeAAAA)
			six <- result{reply, err}
		}()
	} else {
		six <- result{}
	}
	four, err := r.Query(name, dnsmessage.TypeA)
	second := <-six
	answers := append(four.Answers, second.reply.Answers...)
	addrs := addresses(answers)
	if len(addrs) > 0 {
		r.remember(name, addrs, answers)
		return addrs, nil
	}
	if err == nil {
		err = second.err
	}
	if err == nil {
		err = &ResolveError{Name: name, RCode: four.RCode}
	}
	return nil, err
}

// addresses are those in A and AAAA records.
func addresses(answers []dnsmessage.Resource) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range answers {
		if addr, ok := address(a); ok {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func address(r dnsmessage.Resource) (netip.Addr, bool) {
	switch b := r.Body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(b.A), true
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(b.AAAA), true
	}
	return netip.Addr{}, false
}

func (r *Resolver) remembered(name string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.kept[name]; ok && time.Now().Before(k.until) {
		return slices.Clone(k.addrs)
	}
	return nil
}

func (r *Resolver) remember(name string, addrs []netip.Addr, answers []dnsmessage.Resource) {
	keep := maxKeep
	if answers == nil {
		keep = minKeep
	}
	for _, a := range answers {
		keep = min(keep, time.Duration(a.Header.TTL)*time.Second)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) >= maxKept {
		for old := range r.kept { // any one
			delete(r.kept, old)
			break
		}
	}
	r.kept[name] = keptAddrs{slices.Clone(addrs), time.Now().Add(max(keep, minKeep))}
}

// unasked says whether name servers are never asked for a name: it belongs to
// multicast DNS (RFC 6762, section 3), which the sandbox has not, so that only the
// host's own /etc/hosts can know it.
func unasked(name string) bool {
	return policy.NoName(name) || name == "local" || strings.HasSuffix(name, ".local")
}
