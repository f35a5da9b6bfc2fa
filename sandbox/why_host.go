package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// host explains a host, NAME[:PORT] or ADDR[:PORT]; ok is false for a word that is
// neither. Where it matters the name is resolved, as it would be for the command.
func (s *Session) host(word string) (a Answer, ok bool) {
	want, err := policy.ParseNetAllow(word)
	switch {
	case err != nil && !isAddress(word) && !isHere(word):
		return a, false
	case err == nil && want.Name != "" && !strings.Contains(want.Name, "."):
		return a, false
	case err == nil && (want.Wildcard || want.Prefix.IsValid() && !want.Prefix.IsSingleIP()):
		return a, false
	}
	a.Subject = word
	p := s.Policy
	switch {
	case p.Network == policy.Host:
		a.Text = "reached as from the host (--net host)"
		return a, true
	case err != nil && strings.EqualFold(strings.TrimSuffix(word, "."), "localhost"):
		a.Text, a.Purpose, a.Flags = "the sandbox's own localhost, not the host's", "reach a service of the host's", []string{"--net-allow", "localhost:PORT"}
		return a, true
	case err != nil:
		a.Text = "not reached: " + reasonOf(err)
		return a, true
	case want.Localhost:
		a.Text, a.Purpose, a.Flags = "the sandbox's own localhost, not the host's", "reach the host's", []string{"--net-allow", word}
		for _, r := range p.NetAllow {
			if r.Localhost && r.Port == want.Port {
				a.Text, a.Purpose, a.Flags = "the host's ("+r.Flag+")", "", nil
			}
		}
		return a, true
	}
	a.Text, a.Flags = s.reaches(want)
	if a.Flags != nil {
		a.Purpose = "allow it"
	}
	return a, true
}

// reaches says what becomes of a connection, and by which flags it would be allowed.
func (s *Session) reaches(want policy.NetRule) (text string, flags []string) {
	proxies, _ := network.ParseProxies(s.options.Getenv)
	decide := network.NewPolicy(s.Policy.Network, s.Policy.NetAllow, proxies.Any())
	addrs := []netip.Addr{want.Prefix.Addr()}
	where := ""
	if want.Name != "" {
		if decide.Lookup(want.Name) == network.Refuse {
			return s.denied(decide.Refusal(want.Name))
		}
		if proxy := proxies.For(want.Name, netip.Addr{}, want.Port); proxy != nil {
			return "reached by the proxy " + proxy.String() + s.because(want), nil
		}
		var err error
		if addrs, err = network.NewResolver("", "").Resolve(want.Name); err != nil {
			return "allowed" + s.because(want) + ", but " + err.Error(), nil
		}
		where = " at " + addrs[0].String()
	}
	router, err := network.OpenRouter()
	if err != nil {
		return err.Error(), nil
	}
	defer router.Close()
	var first *network.Denied
	for _, addr := range addrs {
		route, err := router.Lookup(addr)
		if err == nil {
			err = decide.Allow(network.Flow{Name: want.Name, Addr: addr, Port: want.Port}, route)
		}
		if err == nil {
			return "reached" + where + s.because(want), nil
		}
		if first == nil && !errors.As(err, &first) {
			return "not reached: " + err.Error(), nil
		}
	}
	return s.denied(first)
}

func (s *Session) denied(d *network.Denied) (text string, flags []string) {
	if d.Allow() != "" {
		flags = strings.Fields(d.Allow())
	}
	return fmt.Sprintf("not reached (--net %s): %s", s.Policy.Network, d.Reason), flags
}

// because names the rule that allows a host, or the network.
func (s *Session) because(want policy.NetRule) string {
	for _, r := range s.Policy.NetAllow {
		switch {
		case r.Port != 0 && r.Port != want.Port:
		case want.Name != "" && (r.Name == want.Name && !r.Wildcard || r.Wildcard && strings.HasSuffix(want.Name, "."+r.Name)):
			return " (" + r.Flag + ")"
		case want.Name == "" && r.Prefix.IsValid() && r.Prefix.Contains(want.Prefix.Addr()):
			return " (" + r.Flag + ")"
		}
	}
	return " (--net " + s.Policy.Network.String() + ")"
}

// isAddress says whether a word is an address that no rule can allow.
func isAddress(word string) bool {
	if _, err := netip.ParseAddrPort(word); err == nil {
		return true
	}
	_, err := netip.ParseAddr(word)
	return err == nil
}

// isHere says whether a word is a name of this machine that no rule can allow, or an
// address in a spelling that only inet_aton(3) takes: 0x7f000001, 127.1, [::1].
func isHere(word string) bool {
	if in, _, closed := strings.Cut(strings.TrimPrefix(word, "["), "]"); strings.HasPrefix(word, "[") {
		return closed && strings.Contains(in, ":")
	}
	name, _, _ := strings.Cut(strings.ToLower(word), ":")
	name = strings.TrimSuffix(name, ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	// A file may end in a number, and 404 be anything.
	for label := range strings.SplitSeq(name, ".") {
		if !policy.NumericName(label) {
			return false
		}
	}
	return strings.Contains(name, ".") || strings.HasPrefix(name, "0x") || len(name) > 6
}

// reasonOf is why a rule cannot be meant.
func reasonOf(err error) string {
	var e *policy.RuleError
	if errors.As(err, &e) {
		return e.Reason
	}
	return err.Error()
}
