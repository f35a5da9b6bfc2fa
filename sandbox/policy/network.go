package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Network is the network that the sandbox starts from. The zero value has
// none.
type Network uint8

const (
	// None is a network namespace with loopback alone, and what --net-allow adds.
	None Network = iota
	// Host is the host's network, with its localhost services.
	Host
	// Internet is the public internet: not the host's localhost, nor its own,
	// on-link or private addresses, apart from what --net-allow adds.
	Internet
)

// String gives the word that --net takes.
func (n Network) String() string {
	switch n {
	case None:
		return "none"
	case Host:
		return "host"
	case Internet:
		return "internet"
	}
	return fmt.Sprintf("Network(%d)", uint8(n))
}

// ParseNetwork reads the value of --net.
func ParseNetwork(s string) (Network, error) {
	for _, n := range []Network{None, Host, Internet} {
		if s == n.String() {
			return n, nil
		}
	}
	return None, fmt.Errorf("cannot use %q as the network: it is internet, none or host", s)
}

// NetRule allows connections. Of Name, Prefix and Localhost exactly one is set.
type NetRule struct {
	// Flag is what was typed.
	Flag string
	// Name is a host name in lower case ASCII without a dot at its end.
	Name string
	// Wildcard means every name below Name, at any depth, and not Name itself.
	Wildcard bool
	// Prefix is a range of addresses, or one address in its full length.
	Prefix netip.Prefix
	// Localhost means the port of the host's loopback addresses.
	Localhost bool
	// Port is the only port, 0 means all. It is never 0 with Localhost.
	Port uint16
}

// String is the rule as a flag, which ParseNetAllow reads back.
func (r NetRule) String() string {
	s := r.Name
	switch {
	case r.Localhost:
		s = "localhost"
	case r.Wildcard:
		s = "*." + r.Name
	case r.Name == "" && r.Prefix.IsSingleIP():
		s = r.Prefix.Addr().String()
	case r.Name == "":
		s = r.Prefix.String()
	}
	if r.Port != 0 {
		if r.Name == "" && r.Prefix.Addr().Is6() {
			s = "[" + s + "]"
		}
		s += ":" + strconv.Itoa(int(r.Port))
	}
	return "--net-allow " + s
}

// FakeNetwork are the addresses that stand for allowed names inside the sandbox.
// They are set aside for tests of network equipment (RFC 2544), so that nothing
// else has them.
func FakeNetwork() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, 0}), 15)
}

// InsideNetwork6 are the IPv6 addresses of the sandbox's own network (RFC 4193).
func InsideNetwork6() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x73, 0x62, 0x78}), 48)
}

// ParseNetAllow reads the value of --net-allow: NAME, *.SUFFIX, an address or a
// range of them in CIDR notation, each with :PORT or without, and localhost:PORT.
// An IPv6 address with a port is in brackets (RFC 3986, section 3.2.2).
func ParseNetAllow(value string) (NetRule, error) {
	r := NetRule{Flag: "--net-allow " + value}
	host, port, reason := splitPort(value)
	if reason == "" {
		reason = r.read(host)
	}
	switch {
	case reason != "":
	case port != "":
		r.Port, reason = parsePort(port)
	case r.Localhost:
		reason = "all ports of the host's localhost would be reachable; write localhost:PORT"
	}
	if reason != "" {
		return NetRule{}, &RuleError{Flag: r.Flag, Reason: reason}
	}
	return r, nil
}

// read fills in whom the rule allows. It returns why it cannot, or "".
func (r *NetRule) read(host string) (reason string) {
	switch {
	case strings.Contains(host, "%"):
		return "an address with a zone is on the local link, which the sandbox is not on"
	case strings.Contains(host, "/"):
		p, err := netip.ParsePrefix(host)
		if err != nil {
			return "it is neither a name nor a range of addresses such as 10.1.0.0/16"
		}
		r.Prefix = p
		return checkPrefix(p)
	case strings.Contains(host, ":"):
		a, err := netip.ParseAddr(host)
		if err != nil {
			return "it is no IPv6 address; a port follows one as in [2001:db8::1]:443"
		}
		r.Prefix = netip.PrefixFrom(a, 128)
		return checkPrefix(r.Prefix)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		r.Prefix = netip.PrefixFrom(a, 32)
		return checkPrefix(r.Prefix)
	}
	r.Name, reason = parseName(host)
	r.Localhost = r.Name == "localhost"
	if r.Localhost {
		r.Name = ""
	}
	if suffix, ok := strings.CutPrefix(r.Name, "*."); ok {
		r.Name, r.Wildcard = suffix, true
	}
	return reason
}

// checkPrefix refuses what no rule can allow, or what a rule allows in other words.
func checkPrefix(p netip.Prefix) (reason string) {
	a := p.Addr()
	switch {
	case a.Is4In6():
		if bits := p.Bits() - 96; bits >= 0 {
			return "write it as the IPv4 address that it contains: " + prefixString(netip.PrefixFrom(a.Unmap(), bits).Masked())
		}
		return "it contains IPv4 addresses; write them as such"
	case p.Masked() != p:
		return fmt.Sprintf("the range that %s is in begins elsewhere; write %s or %s", a, a, p.Masked())
	case a.IsLoopback() && p.Bits() >= 8:
		return "services of the host's localhost are allowed one by one; write localhost:PORT"
	case a.IsUnspecified() && p.IsSingleIP(), a.Is4() && a.As4()[0] == 0 && p.Bits() >= 8:
		return "it is no address that can be connected to"
	case a.IsMulticast() && p.Bits() >= 4, a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the sandbox has no multicast or broadcast"
	case InsideNetwork6().Overlaps(p) && p.Bits() >= InsideNetwork6().Bits():
		return InsideNetwork6().String() + " is used inside the sandbox"
	case a.Is6() && p.Bits() >= 96 && netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(a):
		return "it is no address that can be connected to; a port follows one as in [2001:db8::1]:443, or localhost:443"
	case FakeNetwork().Overlaps(p) && p.Bits() >= FakeNetwork().Bits():
		return FakeNetwork().String() + " is used inside the sandbox, for the names that are allowed"
	}
	return ""
}

// prefixString writes a single address without its length.
func prefixString(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
