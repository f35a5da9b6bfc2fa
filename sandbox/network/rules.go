package network

import (
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Policy decides what a sandbox reaches. It is pure: what the machine knows of an
// address is an argument. The zero value allows nothing.
type Policy struct {
	base    policy.Network
	rules   []policy.NetRule
	proxied bool
}

// NewPolicy makes a policy from the value of --net and the rules of --net-allow.
// Proxied says that the host reaches the internet by an HTTP proxy, which has to be
// told names: all allowed ones then get fake addresses.
//
// Rules for localhost are not for it: connections to localhost do not leave the
// sandbox by an address.
func NewPolicy(base policy.Network, rules []policy.NetRule, proxied bool) *Policy {
	return &Policy{base: base, rules: rules, proxied: proxied}
}

// Verdict is what becomes of a name.
type Verdict uint8

const (
	// Refuse is answered with "no such name", and nobody is asked.
	Refuse Verdict = iota
	// Real is answered with the addresses that the name has, as far as they are allowed.
	Real
	// Fake is answered with an address that stands for the name.
	Fake
)

// String is for tests and messages.
func (v Verdict) String() string {
	switch v {
	case Real:
		return "real"
	case Fake:
		return "fake"
	}
	return "refuse"
}

// Lookup decides about a name in the form of policy.NetRule.Name. Labels in front
// that begin with an underscore belong to a service of the name behind them (RFC
// 8552), which is what is decided about.
func (p *Policy) Lookup(name string) Verdict {
	name = host(name)
	if !policy.ValidName(name) || policy.NumericName(name) || policy.NoName(name) {
		return Refuse
	}
	exact, wildcard := p.named(name)
	switch {
	case exact:
		return Fake
	case policy.PrivateName(name), p.base != policy.Internet && !wildcard:
		return Refuse
	case wildcard, p.proxied:
		return Fake
	}
	return Real
}

// named says which kinds of rules there are for a name, for any port.
func (p *Policy) named(name string) (exact, wildcard bool) {
	for i := range p.rules {
		switch r := &p.rules[i]; {
		case r.Name == "":
		case r.Wildcard:
			wildcard = wildcard || below(name, r.Name)
		default:
			exact = exact || r.Name == name
		}
	}
	return exact, wildcard
}

// below says whether name is in the domain suffix, and not the domain itself.
func below(name, suffix string) bool {
	n := len(name) - len(suffix)
	return n > 1 && name[n-1] == '.' && name[n:] == suffix
}

// host is the name that the labels of a service belong to: two of them (RFC 2782), as
// long as services' names are (RFC 6335, section 5.1). With more, a query for an allowed
// name could tell its name servers much.
func host(name string) string {
	const most, longest = 2, 1 + 15
	for range most {
		label, rest, ok := strings.Cut(name, ".")
		if !ok || !strings.HasPrefix(label, "_") || len(label) > longest {
			break
		}
		name = rest
	}
	return name
}

// Allow decides about a flow to a concrete address, at the moment of connecting
// to it. The error is a *Denied.
//
// A bare address is reached by --net=internet or by a rule for it. A name is
// reached where a rule allows it, or with --net=internet. What else an address is
// counts more: see the methods below.
func (p *Policy) Allow(f Flow, r Route) error {
	f.Addr = f.Addr.Unmap()
	class := Classify(f.Addr)
	switch class {
	case Invalid, Unspecified, Multicast, Broadcast:
		return &Denied{Flow: f, Reason: f.where() + class.String()}
	case Loopback:
		d := &Denied{Flow: f, Reason: f.where() + class.String()}
		if f.Proto == TCP && f.Port != 0 {
			d.fix = flag("localhost", f.Port)
		}
		return d
	}
	if r.Broadcast {
		return &Denied{Flow: f, Reason: f.where() + Broadcast.String()}
	}
	if p.byAddress(f, class, r) {
		return nil
	}
	return p.byName(f, class, r)
}

// where begins a reason that is about the address.
func (f *Flow) where() string {
	if f.Name != "" {
		return "it resolves to "
	}
	return "it is "
}

// byAddress says whether a rule for addresses allows the flow. One that names a
// single address means it, whatever it is. A range does not mean the host, nor
// what is dangerous on every network.
func (p *Policy) byAddress(f Flow, class Class, r Route) bool {
	for i := range p.rules {
		rule := &p.rules[i]
		switch {
		case !rule.Prefix.IsValid() || !rule.Prefix.Contains(f.Addr) || !covers(rule.Port, f):
		case rule.Prefix.IsSingleIP():
			return true
		case r.Own || class < Reserved:
		default:
			return true
		}
	}
	return false
}

// covers says whether a rule for a port, or for all, is for the flow.
func covers(port uint16, f Flow) bool {
	return port == 0 || f.Proto != Ping && (port == f.Port || f.Port == 0)
}

// byName decides about what no rule for addresses allows: names, and the internet.
func (p *Policy) byName(f Flow, class Class, r Route) error {
	exact, wildcard := p.allowing(f)
	deny := func(reason, fix string) error { return &Denied{Flow: f, Reason: reason, fix: fix} }
	switch {
	case p.base != policy.Internet && f.Name == "":
		return deny("no rule allows the address", flag(f.Addr.String(), f.Port))
	case p.base != policy.Internet && !exact && !wildcard:
		return p.unnamed(f)
	case r.Own:
		return deny(f.where()+"the host's own address", flag(f.Addr.String(), f.Port))
	case class <= Reserved:
		return deny(f.where()+class.String(), flag(f.Addr.String(), f.Port))
	case p.base != policy.Internet && f.Proto == UDP && f.Port == 443:
		return deny(HidesName, "")
	case exact:
		return nil
	case class == Public && !r.OnLink:
		return nil
	}
	what := class.String()
	if class == Public {
		what = "an address of the network that the host is on"
	}
	if f.Name != "" {
		return deny(f.where()+what+", which only a rule for the name itself allows", flag(f.Name, f.Port))
	}
	return deny(f.where()+what, flag(f.Addr.String(), f.Port))
}

// allowing says which kinds of rules allow the name of a flow on its port.
func (p *Policy) allowing(f Flow) (exact, wildcard bool) {
	if f.Name == "" {
		return false, false
	}
	for i := range p.rules {
		switch r := &p.rules[i]; {
		case r.Name == "" || !covers(r.Port, f):
		case r.Wildcard:
			wildcard = wildcard || below(f.Name, r.Name)
		default:
			exact = exact || r.Name == f.Name
		}
	}
	return exact, wildcard
}

// Named says whether a rule names exactly what a flow is for.
func (p *Policy) Named(f Flow) bool {
	exact, _ := p.allowing(f)
	return exact
}

// AllowProxied decides about a flow that an HTTP proxy is asked for by name: to
// which address, the proxy decides, and the proxy is on a network that the host is
// on. So only names count, and with --net=internet all but the special ones.
func (p *Policy) AllowProxied(f Flow) error {
	exact, wildcard := p.allowing(f)
	switch {
	case f.Proto != TCP:
		return &Denied{Flow: f, Reason: "the host reaches the internet by an HTTP proxy, which takes TCP alone"}
	case exact, wildcard, p.base == policy.Internet && p.Lookup(f.Name) != Refuse:
		return nil
	}
	return p.unnamed(f)
}

// unnamed is the error for a flow whose name no rule allows on its port.
func (p *Policy) unnamed(f Flow) *Denied {
	d := &Denied{Flow: f, Reason: "no rule allows the name", fix: flag(f.Name, f.Port)}
	if exact, wildcard := p.named(f.Name); exact || wildcard {
		d.Reason = "the rules allow the name on other ports only"
		if f.Proto == Ping {
			d.Reason, d.fix = "the rules allow the name on single ports only", flag(f.Name, 0)
		}
	}
	return d
}

// Refusal says why Lookup refuses a name.
func (p *Policy) Refusal(name string) *Denied {
	d := &Denied{Flow: Flow{Name: name}}
	h := host(name)
	switch {
	case policy.NumericName(h):
		d.Reason = "it is a number, not a name"
	case !policy.ValidName(h):
		d.Reason = "it is no host name"
	case policy.NoName(h):
		d.Reason = "such names do not exist"
	case p.base == policy.Internet && policy.PrivateName(h):
		d.Reason, d.fix = "it is a name of a private network", flag(h, 0)
	default:
		d.Reason, d.fix = "no rule allows the name", flag(h, 0)
	}
	return d
}
