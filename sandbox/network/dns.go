package network

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// fakeTTL is how long a program may keep a fake address, in seconds. It stays the
// same; but whether the name still exists is to be seen.
const fakeTTL = 5

// Notes are told what happens. The methods are called at any time by any goroutine.
type Notes interface {
	// Denied is told of each look-up that is denied, as often as it happens.
	Denied(*Denied)
	// Resolved is told of names that were resolved, with their real addresses.
	Resolved(name string, addrs []netip.Addr)
}

// Routes knows what the host's kernel knows of an address.
type Routes interface {
	Lookup(netip.Addr) (Route, error)
}

// NameServer answers the sandbox's DNS queries (RFC 1035). All fields but Proxied
// are needed.
type NameServer struct {
	Policy   *Policy
	Names    *Names
	Resolver *Resolver
	Routes   Routes
	Notes    Notes
	// IPv6 says whether the sandbox can reach IPv6 addresses.
	IPv6 bool
	// Proxied says whether an HTTP proxy is asked for a name, so that the host need
	// not be able to resolve it. It may be nil.
	Proxied func(name string) bool
}

// Answer gives the answer to a query, without the length that is in front of it
// with TCP; nil is none. It blocks until the name servers have answered, and may be
// called at the same time by many.
func (s *NameServer) Answer(query []byte, tcp bool) []byte {
	q, code := parseQuery(query, tcp)
	switch {
	case code == noAnswer:
		return nil
	case code != dnsmessage.RCodeSuccess:
		return q.answer(code, nil)
	}
	return q.answer(s.answer(q))
}

// answer decides who answers a query, and for a name that is not allowed nobody is
// asked.
func (s *NameServer) answer(q *query) (dnsmessage.RCode, []dnsmessage.Resource) {
	switch {
	case q.name == "localhost" || strings.HasSuffix(q.name, ".localhost"):
		return s.localhost(q)
	case strings.HasSuffix(q.name, ".in-addr.arpa") || strings.HasSuffix(q.name, ".ip6.arpa"):
		return s.reverse(q)
	}
	verdict := s.Policy.Lookup(q.name)
	switch {
	case q.name == "": // the root, of which there is nothing to say
		return dnsmessage.RCodeRefused, nil
	case verdict == Refuse:
		s.Notes.Denied(s.Policy.Refusal(q.name))
		return dnsmessage.RCodeNameError, nil
	case s.Policy.Telling(q.name, q.Type):
		s.Notes.Denied(&Denied{Flow: Flow{Name: q.name}, Reason: "of what is below a name only some services (SRV) are asked for", fix: flag("*."+host(q.name), 0)})
		return dnsmessage.RCodeNameError, nil
	case q.Type == dnsmessage.TypeHTTPS || q.Type == dnsmessage.TypeSVCB:
		// They have addresses as hints, and keys that would hide names (RFC 9460).
		return dnsmessage.RCodeSuccess, nil
	case verdict == Fake && q.Type == dnsmessage.TypeA && host(q.name) != q.name:
		return dnsmessage.RCodeSuccess, nil // a service has no address
	case q.Type == dnsmessage.TypeAAAA && (verdict == Fake || !s.IPv6):
		return dnsmessage.RCodeSuccess, nil
	case !forwarded(q.Type):
		return dnsmessage.RCodeNotImplemented, nil
	case verdict == Fake && q.Type == dnsmessage.TypeA:
		return s.fake(q)
	case verdict == Fake && s.proxied(q.name):
		return dnsmessage.RCodeSuccess, nil
	}
	return s.forward(q)
}

func (s *NameServer) proxied(name string) bool { return s.Proxied != nil && s.Proxied(name) }

// fake answers with the address that stands for the name, if one of its real
// addresses may be connected to.
func (s *NameServer) fake(q *query) (dnsmessage.RCode, []dnsmessage.Resource) {
	if !s.proxied(q.name) {
		addrs, err := s.Resolver.Resolve(q.name)
		if err != nil {
			return codeOf(err), nil
		}
		allowed, denied := s.allowed(Flow{Name: q.name}, addrs)
		if len(allowed) == 0 {
			s.Notes.Denied(denied)
			return dnsmessage.RCodeNameError, nil
		}
		s.Notes.Resolved(q.name, plain(allowed))
	}
	addr, ok := s.Names.Fake(q.name)
	if !ok {
		return dnsmessage.RCodeServerFailure, nil
	}
	return dnsmessage.RCodeSuccess, []dnsmessage.Resource{q.record(fakeTTL, &dnsmessage.AResource{A: addr.As4()})}
}

// codeOf is the answer for an error of the resolver.
func codeOf(err error) dnsmessage.RCode {
	var e *ResolveError
	if errors.As(err, &e) && (e.RCode == dnsmessage.RCodeNameError || e.RCode == dnsmessage.RCodeSuccess) {
		return e.RCode
	}
	return dnsmessage.RCodeServerFailure
}

// forward answers with what the name servers say, without the addresses that may
// not be connected to.
func (s *NameServer) forward(q *query) (dnsmessage.RCode, []dnsmessage.Resource) {
	if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA {
		if addrs := s.Resolver.Hosts(q.name); len(addrs) > 0 {
			var answers []dnsmessage.Resource
			for _, a := range addrs {
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					answers = append(answers, q.record(fakeTTL, &dnsmessage.AResource{A: a.As4()}))
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					answers = append(answers, q.record(fakeTTL, &dnsmessage.AAAAResource{AAAA: a.As16()}))
				}
			}
			return dnsmessage.RCodeSuccess, s.filter(q, answers)
		}
	}
	reply, err := s.Resolver.Query(q.name, q.Type)
	if err != nil {
		return codeOf(err), nil
	}
	return dnsmessage.RCodeSuccess, s.filter(q, reply.Answers)
}

// filter takes the addresses out of an answer that may not be connected to.
func (s *NameServer) filter(q *query, answers []dnsmessage.Resource) []dnsmessage.Resource {
	addrs := addresses(answers)
	if len(addrs) == 0 {
		return answers
	}
	allowed, denied := s.allowed(Flow{Name: q.name}, addrs)
	if len(allowed) == 0 {
		s.Notes.Denied(denied)
		return nil
	}
	kept := answers[:0:0]
	ok := map[netip.Addr]bool{}
	for _, a := range allowed {
		ok[a.addr] = true
		s.Names.Learn(a.addr, q.name)
	}
	for _, r := range answers {
		if a, is := address(r); !is || ok[a] {
			kept = append(kept, r)
		}
	}
	s.Notes.Resolved(q.name, plain(allowed))
	return kept
}

// localhost answers for the sandbox's own loopback (RFC 6761, section 6.3).
func (s *NameServer) localhost(q *query) (dnsmessage.RCode, []dnsmessage.Resource) {
	switch {
	case q.Type == dnsmessage.TypeA:
		return dnsmessage.RCodeSuccess, []dnsmessage.Resource{q.record(fakeTTL, &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}})}
	case q.Type == dnsmessage.TypeAAAA && s.IPv6:
		return dnsmessage.RCodeSuccess, []dnsmessage.Resource{q.record(fakeTTL, &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}})}
	}
	return dnsmessage.RCodeSuccess, nil
}

// reverse answers for the name of an address. Only of public ones others are asked,
// and only where all of the internet is allowed.
func (s *NameServer) reverse(q *query) (dnsmessage.RCode, []dnsmessage.Resource) {
	addr, ok := reverseAddr(q.name)
	name := ""
	switch {
	case !ok || q.Type != dnsmessage.TypePTR:
	case addr.IsLoopback():
		name = "localhost"
	case IsFake(addr):
		name, _ = s.Names.Name(addr)
	case Classify(addr).Public() && s.Policy.base == policy.Internet && !s.Policy.proxied:
		// The name servers may know the host's own name, and its neighbours'.
		if allowed, _ := s.allowed(Flow{}, []netip.Addr{addr}); len(allowed) > 0 {
			return s.forward(q)
		}
	}
	if n, err := dnsmessage.NewName(name + "."); err == nil && name != "" {
		return dnsmessage.RCodeSuccess, []dnsmessage.Resource{q.record(fakeTTL, &dnsmessage.PTRResource{PTR: n})}
	}
	return dnsmessage.RCodeNameError, nil
}
