package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// notes are what a name server has told.
type notes struct {
	mu       sync.Mutex
	denied   []*Denied
	resolved []string
}

func (n *notes) Denied(d *Denied) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.denied = append(n.denied, d)
}

func (n *notes) Resolved(name string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolved = append(n.resolved, name+" "+addrList(addrs))
}

// take gives the denials since the last call, each as its text and its flag.
func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for _, d := range n.denied {
		all = append(all, d.Error()+" ["+d.Allow()+"]")
	}
	n.denied, n.resolved = nil, nil
	return strings.Join(all, "; ")
}

// routes are what is not a remote address.
type routes map[string]Route

func (r routes) Lookup(a netip.Addr) (Route, error) {
	if a == netip.MustParseAddr("9.9.9.9") {
		return Route{}, errors.New("cannot find a route: broken")
	}
	return r[a.String()], nil
}

func nameServer(t testing.TB, u *upstream, base policy.Network, typed string) (*NameServer, *notes) {
	n := &notes{}
	r := resolver(t, "10.0.0.1 git.corp.internal printer.local\n10.0.0.9 lan.example.org\n8.8.8.9 pub.example.org\n2600::9 pub.example.org\n", u)
	r.IPv6 = true
	return &NameServer{
		Policy: NewPolicy(base, rules(t, typed), false), Names: NewNames(), Resolver: r,
		Routes: routes{"8.8.8.1": {Own: true}, "8.8.8.2": {OnLink: true}}, Notes: n, IPv6: true,
	}, n
}

// ask asks a question, and gives the answer in a line.
func ask(t testing.TB, s *NameServer, name string, kind dnsmessage.Type) string {
	t.Helper()
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}}}
	query, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return show(t, s.Answer(query, true), m)
}

// show gives an answer in a line, and holds that it is one to the query.
func show(t testing.TB, b []byte, query dnsmessage.Message) string {
	t.Helper()
	if b == nil {
		return "none"
	}
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Errorf("an answer that cannot be read: %x: %v", b, err)
		return "bad"
	}
	if m.ID != query.ID || !m.Response || !m.RecursionAvailable || m.Authoritative {
		t.Errorf("the header of an answer: %+v", m.Header)
	}
	if len(m.Questions) == 1 && len(query.Questions) == 1 && m.Questions[0] != query.Questions[0] {
		t.Errorf("the question of an answer is %v, asked was %v", m.Questions, query.Questions)
	}
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	if m.Truncated {
		words = append(words, "truncated")
	}
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.CNAMEResource:
			words = append(words, "="+strings.TrimSuffix(b.CNAME.String(), "."))
		case *dnsmessage.PTRResource:
			words = append(words, "="+b.PTR.String())
		case *dnsmessage.SRVResource:
			words = append(words, "srv "+b.Target.String())
		case *dnsmessage.TXTResource:
			words = append(words, "txt "+strings.Join(b.TXT, " "))
		case *dnsmessage.MXResource:
			words = append(words, "mx "+b.MX.String())
		case *dnsmessage.UnknownResource:
			words = append(words, fmt.Sprintf("type%d %s", b.Type, b.Data))
		default:
			words = append(words, fmt.Sprintf("%T", b))
		}
	}
	return strings.Join(words, " ")
}

// world are the names of the tests.
var world = []string{
	"registry.example.com A 8.8.8.8", "registry.example.com AAAA 2600::8", "registry.example.com TXT hello", "registry.example.com MX mail.example.com",
	"registry.example.com CAA x", "registry.example.com HTTPS x",
	"_http._tcp.registry.example.com SRV mirror.example.com",
	"a.cdn.example.com CNAME edge.example.net", "edge.example.net A 8.8.4.4",
	"private.cdn.example.com A 10.0.0.7", "link.cdn.example.com A 8.8.8.2", "mixed.cdn.example.com A 10.0.0.7", "mixed.cdn.example.com A 8.8.4.4",
	"git.example.com A 10.0.0.7", "own.example.com A 8.8.8.1", "loop.example.com A 127.0.0.1", "meta.example.com A 169.254.169.254",
	"mapped.example.com AAAA ::ffff:127.0.0.1", "nat.example.com AAAA 64:ff9b::7f00:1", "zero.example.com A 0.0.0.0", "broken.example.com A 9.9.9.9",
	"six.example.com AAAA 2600::6", "empty.example.com TXT x",
	"other.example.org A 8.8.4.4", "other.example.org AAAA 2600::7", "other.example.org AAAA fd00::7", "other.example.org HTTPS x", "other.example.org TXT hi",
	"rebind.example.org A 10.0.0.7", "rebind.example.org A 127.0.0.1", "rebind.example.org AAAA ::1", "lan.example.org A 8.8.8.8",
	"alias.example.org CNAME other.example.org", "8.8.8.8.in-addr.arpa PTR dns.example.org", "1.8.8.8.in-addr.arpa PTR host.example.org", "2.8.8.8.in-addr.arpa PTR neighbour.example.org",
}

// TestAllowList holds what a sandbox with an allow-list sees, and that nobody is asked
// about other names.
func TestAllowList(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set(world...)
	s, n := nameServer(t, u, policy.None, "registry.example.com:443 *.cdn.example.com git.example.com git.corp.internal printer.local own.example.com loop.example.com meta.example.com mapped.example.com nat.example.com zero.example.com six.example.com empty.example.com broken.example.com nx.example.com")
	const a, aaaa, txt, srv, ptr, https = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeTXT, dnsmessage.TypeSRV, dnsmessage.TypePTR, dnsmessage.TypeHTTPS
	tests := []struct {
		name   string
		kind   dnsmessage.Type
		want   string
		asked  string
		denied string
	}{
		{"registry.example.com", a, "Success 198.18.1.1", "registry.example.com A, registry.example.com AAAA", ""},
		{"registry.example.com", a, "Success 198.18.1.1", "", ""},
		{"ReGistry.Example.com", a, "Success 198.18.1.1", "", ""},
		{"registry.example.com", aaaa, "Success", "", ""},
		{"registry.example.com", https, "Success", "", ""},
		{"registry.example.com", dnsmessage.TypeSVCB, "Success", "", ""},
		{"registry.example.com", txt, "Success txt hello", "registry.example.com TXT", ""},
		{"registry.example.com", dnsmessage.TypeMX, "Success mx mail.example.com.", "registry.example.com MX", ""},
		{"registry.example.com", typeCAA, "Success type257 x", "registry.example.com CAA", ""},
		{"registry.example.com", dnsmessage.TypeNS, "Success", "registry.example.com NS", ""},
		{"registry.example.com", dnsmessage.Type(48), "NotImplemented", "", ""},
		{"registry.example.com", dnsmessage.TypeALL, "Refused", "", ""},
		{"registry.example.com", typeAXFR, "Refused", "", ""},
		{"registry.example.com", typeIXFR, "Refused", "", ""},
		{"_http._tcp.registry.example.com", srv, "Success srv mirror.example.com.", "_http._tcp.registry.example.com SRV", ""},
		{"_http._tcp.registry.example.com", a, "NameError", "", "look up _http._tcp.registry.example.com: of what is below a name only some services (SRV) are asked for [--net-allow *.registry.example.com]"},
		{"_http._tcp.registry.example.com", txt, "NameError", "", "only some services"},
		{"_http._data.registry.example.com", srv, "NameError", "", "only some services"},
		{"_http.registry.example.com", srv, "NameError", "", "only some services"},
		{"_c2vjcmv0._tcp.registry.example.com", srv, "NameError", "", "only some services"},
		{"_x.registry.example.com", a, "NameError", "", "only some services"},
		{"_c2vjcmv0._x.a.cdn.example.com", txt, "NameError", "_c2vjcmv0._x.a.cdn.example.com TXT", ""}, // all below it is allowed
		{"mirror.example.com", a, "NameError", "", "look up mirror.example.com: no rule allows the name [--net-allow mirror.example.com]"},
		{"a.cdn.example.com", a, "Success 198.18.1.2", "a.cdn.example.com A, a.cdn.example.com AAAA", ""},
		{"edge.example.net", a, "NameError", "", "no rule allows the name"},
		{"cdn.example.com", a, "NameError", "", "no rule allows the name"},
		{"private.cdn.example.com", a, "NameError", "private.cdn.example.com A, private.cdn.example.com AAAA", "private.cdn.example.com (10.0.0.7): it resolves to a private address, which only a rule for the name itself allows [--net-allow private.cdn.example.com]"},
		{"link.cdn.example.com", a, "NameError", "link.cdn.example.com A, link.cdn.example.com AAAA", "the network that the host is on"},
		{"mixed.cdn.example.com", a, "Success 198.18.1.3", "mixed.cdn.example.com A, mixed.cdn.example.com AAAA", ""},
		{"git.example.com", a, "Success 198.18.1.4", "git.example.com A, git.example.com AAAA", ""},
		{"git.corp.internal", a, "Success 198.18.1.5", "", ""},
		{"printer.local", a, "Success 198.18.1.6", "", ""},
		{"own.example.com", a, "NameError", "own.example.com A, own.example.com AAAA", "own address"},
		{"loop.example.com", a, "NameError", "loop.example.com A, loop.example.com AAAA", "the host's localhost"},
		{"meta.example.com", a, "NameError", "meta.example.com A, meta.example.com AAAA", "metadata"},
		{"mapped.example.com", a, "NameError", "mapped.example.com A, mapped.example.com AAAA", "localhost"},
		{"nat.example.com", a, "NameError", "nat.example.com A, nat.example.com AAAA", "localhost"},
		{"zero.example.com", a, "NameError", "zero.example.com A, zero.example.com AAAA", "unspecified"},
		{"broken.example.com", a, "NameError", "broken.example.com A, broken.example.com AAAA", "broken"},
		{"six.example.com", a, "Success 198.18.1.7", "six.example.com A, six.example.com AAAA", ""},
		{"empty.example.com", a, "Success", "empty.example.com A, empty.example.com AAAA", ""},
		{"nx.example.com", a, "NameError", "nx.example.com A, nx.example.com AAAA", ""},

		// Secrets in names do not leave the machine.
		{"c2VjcmV0.evil.example", a, "NameError", "", "no rule"},
		{"c2VjcmV0.evil.example", txt, "NameError", "", "no rule"},
		{"c2VjcmV0.registry.example.com", a, "NameError", "", "no rule"},
		{"c2VjcmV0.evil.local", a, "NameError", "", "no rule"},
		{"_x.evil.example", srv, "NameError", "", "no rule"},
		{"8.8.8.8.in-addr.arpa", ptr, "NameError", "", ""},
		{"8.8.8.8.in-addr.arpa", txt, "NameError", "", ""},
		{"c2VjcmV0.in-addr.arpa", a, "NameError", "", ""},
		{"evil.ip6.arpa", ptr, "NameError", "", ""},

		// The host in other spellings, as names.
		{"2130706433", a, "NameError", "", "it is a number"},
		{"0177.0.0.1", a, "NameError", "", "it is a number"},
		{"0x7f.0.0.1", a, "NameError", "", "it is a number"},
		{"127.0.0.1", a, "NameError", "", "it is a number"},
		{"169.254.169.254", a, "NameError", "", "it is a number"},
		{"localhost", a, "Success 127.0.0.1", "", ""},
		{"LOCALHOST", aaaa, "Success ::1", "", ""},
		{"x.y.localhost", a, "Success 127.0.0.1", "", ""},
		{"localhost", txt, "Success", "", ""},
		{"1.0.0.127.in-addr.arpa", ptr, "Success =localhost.", "", ""},
		{"1.1.18.198.in-addr.arpa", ptr, "Success =registry.example.com.", "", ""},
		{"9.9.18.198.in-addr.arpa", ptr, "NameError", "", ""},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", ptr, "Success =localhost.", "", ""},
		{"", a, "Refused", "", ""},
		{"x", a, "NameError", "", "[--net-allow x]"},
		{"a b.example.com", a, "NameError", "", "no host name"},
		{"reg\u0130stry.example.com", a, "NameError", "", "no host name"},
		{"\u212a.cdn.example.com", a, "NameError", "", "no host name"}, // a letter whose lower case is k
	}
	for _, test := range tests {
		if got := ask(t, s, test.name, test.kind); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.name, typeName(test.kind), got, test.want)
		}
		if got := u.seen(); got != test.asked {
			t.Errorf("%s %s: the name server was asked %q, want %q", test.name, typeName(test.kind), got, test.asked)
		}
		if got := n.take(); !strings.Contains(got, test.denied) || (got == "") != (test.denied == "") {
			t.Errorf("%s %s: denied %q, want %q", test.name, typeName(test.kind), got, test.denied)
		}
	}
}

// TestInternet holds what a sandbox with the internet sees.
func TestInternet(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set(world...)
	s, n := nameServer(t, u, policy.Internet, "registry.example.com git.example.com 10.77.0.0/16")
	u.set("range.example.org A 10.77.1.1")
	const a, aaaa, txt, ptr = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeTXT, dnsmessage.TypePTR
	tests := []struct {
		name   string
		kind   dnsmessage.Type
		want   string
		denied string
	}{
		{"other.example.org", a, "Success 8.8.4.4", ""},
		{"other.example.org", aaaa, "Success 2600::7", ""}, // and not fd00::7
		{"other.example.org", txt, "Success txt hi", ""},
		{"other.example.org", dnsmessage.TypeHTTPS, "Success", ""},
		{"alias.example.org", a, "Success =other.example.org 8.8.4.4", ""},
		{"rebind.example.org", a, "Success", "a private address"},
		{"rebind.example.org", aaaa, "Success", "localhost"},
		{"range.example.org", a, "Success 10.77.1.1", ""},
		{"own.example.com", a, "Success", "own address"},
		{"meta.example.com", a, "Success", "metadata"},
		{"mapped.example.com", aaaa, "Success", "localhost"},
		{"nat.example.com", aaaa, "Success", "localhost"},
		{"broken.example.com", a, "Success", "broken"},
		{"pub.example.org", a, "Success 8.8.8.9", ""}, // of /etc/hosts
		{"pub.example.org", aaaa, "Success 2600::9", ""},
		{"lan.example.org", a, "Success", "a private address"},
		{"registry.example.com", a, "Success 198.18.1.1", ""},
		{"registry.example.com", aaaa, "Success", ""},
		{"git.example.com", a, "Success 198.18.1.2", ""},
		{"git.corp.internal", a, "NameError", "[--net-allow git.corp.internal]"},
		{"metadata.google.internal", a, "NameError", "private network"},
		{"printer.local", a, "NameError", "private network"},
		{"nx.example.org", a, "NameError", ""},
		{"8.8.8.8.in-addr.arpa", ptr, "Success =dns.example.org.", ""},
		{"1.8.8.8.in-addr.arpa", ptr, "NameError", ""},
		{"2.8.8.8.in-addr.arpa", ptr, "NameError", ""},
		{"1.0.0.10.in-addr.arpa", ptr, "NameError", ""},
		{"1.0.254.169.in-addr.arpa", ptr, "NameError", ""},
		{"8.8.8.in-addr.arpa", ptr, "NameError", ""},
	}
	for _, test := range tests {
		if got := ask(t, s, test.name, test.kind); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.name, typeName(test.kind), got, test.want)
		}
		if got := n.take(); !strings.Contains(got, test.denied) || (got == "") != (test.denied == "") {
			t.Errorf("%s %s: denied %q, want %q", test.name, typeName(test.kind), got, test.denied)
		}
	}
	if got := s.Names.Learned(netip.MustParseAddr("8.8.4.4")); got != "alias.example.org" {
		t.Errorf("8.8.4.4 is known as %q", got)
	}
	if got := u.seen(); strings.Contains(got, "internal") || strings.Contains(got, "local") || strings.Contains(got, "10.in-addr") {
		t.Errorf("the name server was asked %s", got)
	}
	s.IPv6 = false
	for _, name := range []string{"other.example.org", "localhost"} {
		if got := ask(t, s, name, aaaa); got != "Success" || u.seen() != "" {
			t.Errorf("%s without IPv6: %s", name, got)
		}
	}
}

// TestRebinding holds that a name that changes its addresses after it was looked up
// is decided about by the ones that it has then.
func TestRebinding(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.cdn.example.com A 8.8.8.8")
	s, _ := nameServer(t, u, policy.None, "*.cdn.example.com")
	if got := ask(t, s, "a.cdn.example.com", dnsmessage.TypeA); got != "Success 198.18.1.1" {
		t.Fatal(got)
	}
	name, ok := s.Names.Name(netip.MustParseAddr("198.18.1.1"))
	if !ok {
		t.Fatal("the address stands for nothing")
	}
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.8.2"} {
		u.set("a.cdn.example.com A " + addr)
		s.Resolver.kept = map[string]keptAddrs{}
		var d *Denied
		if addrs, err := s.Reach(Flow{Name: name, Port: 443}); !errors.As(err, &d) || d.Addr.String() != addr || addrs != nil {
			t.Errorf("%s has become %s: %v, %v", name, addr, addrs, err)
		}
	}
}

// TestReach holds that each address of a name is decided about, on the port.
func TestReach(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.example.com A 127.0.0.1", "a.example.com A 10.0.0.1", "a.example.com A 8.8.8.1", "a.example.com A 8.8.8.8", "a.example.com AAAA 2600::1", "a.example.com AAAA 2600::dead",
		"far.example.com AAAA 2600::dead")
	s, _ := nameServer(t, u, policy.None, "a.example.com:443 *.example.com:22 far.example.com 10.9.0.0/16")
	s.Routes = routes{"8.8.8.1": {Own: true}, "2600::dead": {Unreachable: unix.ENETUNREACH}}
	for _, test := range []struct {
		flow  Flow
		want  string
		fault string
	}{
		{Flow{Name: "a.example.com", Port: 443}, "10.0.0.1 8.8.8.8 2600::1", ""},
		{Flow{Name: "a.example.com", Port: 22}, "8.8.8.8 2600::1", ""},
		{Flow{Name: "a.example.com", Port: 80}, "", "localhost"}, // of the first
		{Flow{Name: "far.example.com", Port: 80}, "", "network is unreachable"},
		{Flow{Name: "nx.example.com", Port: 22}, "", "no such name"},
		{Flow{Addr: netip.MustParseAddr("10.9.0.1"), Port: 80}, "10.9.0.1", ""},
		{Flow{Addr: netip.MustParseAddr("::ffff:10.9.0.1"), Port: 80}, "10.9.0.1", ""},
		{Flow{Addr: netip.MustParseAddr("9.9.9.9"), Port: 80}, "", "broken"},
		{Flow{Addr: netip.MustParseAddr("8.8.8.8"), Port: 443}, "", "no rule allows the address"},
		{Flow{Name: "b.example.org", Addr: netip.MustParseAddr("10.9.0.1"), Port: 443}, "", "no such name"},
	} {
		addrs, err := s.Reach(test.flow)
		if addrList(addrs) != test.want || (err != nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%+v: %v, %v; want %q, %q", test.flow, addrs, err, test.want, test.fault)
		}
	}
}

// TestProxied holds that names that a proxy is asked for are not resolved.
func TestProxied(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set(world...)
	s, n := nameServer(t, u, policy.Internet, "git.example.com")
	s.Policy = NewPolicy(policy.Internet, rules(t, "git.example.com"), true)
	s.Proxied = func(name string) bool { return name != "git.example.com" }
	for _, test := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"anything.example.org", dnsmessage.TypeA, "Success 198.18.1.1"},
		{"anything.example.org", dnsmessage.TypeAAAA, "Success"},
		{"anything.example.org", dnsmessage.TypeTXT, "Success"},
		{"8.8.8.8.in-addr.arpa", dnsmessage.TypePTR, "NameError"},
	} {
		if got := ask(t, s, test.name, test.kind); got != test.want || u.seen() != "" || n.take() != "" {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if got := ask(t, s, "git.example.com", dnsmessage.TypeA); got != "Success 198.18.1.2" || u.seen() == "" {
		t.Errorf("a direct name: %s", got)
	}
}

// TestAnswerFailures goes through name servers that do not answer, and names of which
// there are too many.
func TestAnswerFailures(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set(world...)
	s, _ := nameServer(t, u, policy.None, "*.example.com")
	s.Names.names = make([]string, maxNames)
	if got := ask(t, s, "registry.example.com", dnsmessage.TypeA); got != "ServerFailure" {
		t.Errorf("no addresses left: %s", got)
	}
	u.udp.Close()
	u.tcp.Close()
	if got := ask(t, s, "git.example.com", dnsmessage.TypeA); got != "ServerFailure" {
		t.Errorf("no name server: %s", got)
	}
	if got := ask(t, s, "git.example.com", dnsmessage.TypeTXT); got != "ServerFailure" {
		t.Errorf("no name server: %s", got)
	}
}

// TestAnswerConcurrently is for the race detector.
func TestAnswerConcurrently(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set(world...)
	s, _ := nameServer(t, u, policy.Internet, "registry.example.com *.cdn.example.com")
	names := []string{"registry.example.com", "a.cdn.example.com", "other.example.org", "rebind.example.org", "localhost", "nx.example.org"}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() { ask(t, s, names[i%len(names)], dnsmessage.TypeA) })
	}
	wg.Wait()
	addr, _ := s.Names.Fake("registry.example.com")
	if !slices.Contains([]string{"198.18.1.1", "198.18.1.2"}, addr.String()) {
		t.Errorf("two names have got %s", addr)
	}
}
