package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// rules parses what a user types, separated by spaces.
func rules(t testing.TB, typed string) []policy.NetRule {
	t.Helper()
	var all []policy.NetRule
	for _, s := range strings.Fields(typed) {
		r, err := policy.ParseNetAllow(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestPolicyLookup(t *testing.T) {
	const list = "registry.example.com *.cdn.example.com:443 printer.local intranet git.corp.internal"
	tests := []struct {
		name                             string
		none, internet, proxied, nothing Verdict // nothing: --net=internet without a rule
	}{
		{"registry.example.com", Fake, Fake, Fake, Real},
		{"_http._tcp.registry.example.com", Fake, Fake, Fake, Real},
		{"_a._b._c.registry.example.com", Refuse, Real, Fake, Real},
		{"_sixteen-letters1.registry.example.com", Refuse, Real, Fake, Real},
		{"x.registry.example.com", Refuse, Real, Fake, Real},
		{"xregistry.example.com", Refuse, Real, Fake, Real},
		{"registry.example.com.evil.example", Refuse, Real, Fake, Real},
		{"example.com", Refuse, Real, Fake, Real},
		{"cdn.example.com", Refuse, Real, Fake, Real},
		{"a.cdn.example.com", Fake, Fake, Fake, Real},
		{"a.b.cdn.example.com", Fake, Fake, Fake, Real},
		{"xcdn.example.com", Refuse, Real, Fake, Real},
		{"evilcdn.example.com", Refuse, Real, Fake, Real},
		{".cdn.example.com", Refuse, Refuse, Refuse, Refuse},
		{"printer.local", Fake, Fake, Fake, Refuse},
		{"other.local", Refuse, Refuse, Refuse, Refuse},
		{"intranet", Fake, Fake, Fake, Refuse},
		{"wiki", Refuse, Refuse, Refuse, Refuse},
		{"git.corp.internal", Fake, Fake, Fake, Refuse},
		{"metadata.google.internal", Refuse, Refuse, Refuse, Refuse},
		{"router.home.arpa", Refuse, Refuse, Refuse, Refuse},
		{"x.test", Refuse, Refuse, Refuse, Refuse},
		{"x.onion", Refuse, Refuse, Refuse, Refuse},
		{"x.invalid", Refuse, Refuse, Refuse, Refuse},
		{"localhost", Refuse, Refuse, Refuse, Refuse},
		{"x.localhost", Refuse, Refuse, Refuse, Refuse},
		{"2130706433", Refuse, Refuse, Refuse, Refuse},
		{"0177.0.0.1", Refuse, Refuse, Refuse, Refuse},
		{"0x7f.0.0.1", Refuse, Refuse, Refuse, Refuse},
		{"0x7f000001", Refuse, Refuse, Refuse, Refuse},
		{"127.1", Refuse, Refuse, Refuse, Refuse},
		{"127.0.0.1", Refuse, Refuse, Refuse, Refuse},
		{"169.254.169.254", Refuse, Refuse, Refuse, Refuse},
		{"a.0x", Refuse, Refuse, Refuse, Refuse},
		{"::1", Refuse, Refuse, Refuse, Refuse},
		{"[::1]", Refuse, Refuse, Refuse, Refuse},
		{"", Refuse, Refuse, Refuse, Refuse},
		{"a..example.com", Refuse, Refuse, Refuse, Refuse},
		{"registry.example.com.", Refuse, Refuse, Refuse, Refuse}, // not canonical
		{"Registry.example.com", Refuse, Refuse, Refuse, Refuse},
		{"reg\x00istry.example.com", Refuse, Refuse, Refuse, Refuse},
		{"a b.example.com", Refuse, Refuse, Refuse, Refuse},
	}
	all := rules(t, list)
	for _, test := range tests {
		for what, p := range map[*Policy]Verdict{
			NewPolicy(policy.None, all, false):     test.none,
			NewPolicy(policy.Host, all, false):     test.none,
			NewPolicy(policy.Internet, all, false): test.internet,
			NewPolicy(policy.Internet, all, true):  test.proxied,
			NewPolicy(policy.None, all, true):      test.none,
			NewPolicy(policy.Internet, nil, false): test.nothing,
			NewPolicy(policy.None, nil, true):      Refuse,
			{}:                                     Refuse,
		} {
			if got := what.Lookup(test.name); got != p {
				t.Errorf("%v %v %q: %s, want %s", what.base, what.proxied, test.name, got, p)
			}
		}
	}
}

// TestPolicyAllow goes through what a flow can be.
func TestPolicyAllow(t *testing.T) {
	own, link := Route{Own: true}, Route{OnLink: true}
	tests := []struct {
		base  policy.Network
		rules string
		flow  string // [NAME=]ADDR[:PORT], udp or ping in front
		route Route
		fault string // "" is allowed
		fix   string
	}{
		// The internet is what is public, and not near.
		{policy.Internet, "", "8.8.8.8:443", Route{}, "", ""},
		{policy.Internet, "", "a.example.com=8.8.8.8:443", Route{}, "", ""},
		{policy.Internet, "", "udp 8.8.8.8:443", Route{}, "", ""},
		{policy.Internet, "", "ping 8.8.8.8", Route{}, "", ""},
		{policy.Internet, "", "[2600::1]:443", Route{}, "", ""},
		{policy.Internet, "", "[::ffff:8.8.8.8]:443", Route{}, "", ""},
		{policy.Internet, "", "8.8.8.8:443", own, "own address", "8.8.8.8:443"},
		{policy.Internet, "", "8.8.8.8:443", link, "network that the host is on", "8.8.8.8:443"},
		{policy.Internet, "", "[2600::1]:443", link, "network that the host is on", "[2600::1]:443"},
		{policy.Internet, "", "8.8.8.8:443", Route{Broadcast: true}, "broadcast", ""},
		{policy.Internet, "", "10.0.0.1:80", Route{}, "private", "10.0.0.1:80"},
		{policy.Internet, "", "[fd00::1]:80", Route{}, "private", "[fd00::1]:80"},
		{policy.Internet, "", "[64:ff9b::10.0.0.1]:80", Route{}, "private", "[64:ff9b::a00:1]:80"},
		{policy.Internet, "", "ping 10.0.0.1", Route{}, "private", "10.0.0.1"},
		{policy.Internet, "", "rebound.example.com=10.0.0.1:80", Route{}, "only a rule for the name itself", "rebound.example.com:80"},
		{policy.Internet, "", "rebound.example.com=127.0.0.1:80", Route{}, "resolves to the host's localhost", "localhost:80"},
		{policy.Internet, "", "udp rebound.example.com=127.0.0.1:80", Route{}, "localhost", ""},
		{policy.Internet, "", "169.254.169.254:80", Route{}, "metadata", "169.254.169.254:80"},
		{policy.Internet, "", "[::ffff:169.254.169.254]:80", Route{}, "metadata", "169.254.169.254:80"},
		{policy.Internet, "", "240.0.0.1:80", Route{}, "reserved", "240.0.0.1:80"},
		{policy.Internet, "", "[2001::1]:80", Route{}, "inside", "[2001::1]:80"},

		// An exact name may be private, in both bases; nothing worse.
		{policy.Internet, "git.example.com", "git.example.com=10.0.0.1:80", Route{}, "", ""},
		{policy.Internet, "git.example.com", "git.example.com=100.64.0.1:80", link, "", ""},
		{policy.Internet, "git.example.com", "git.example.com=[fd00::1]:80", link, "", ""},
		{policy.Internet, "git.example.com", "git.example.com=8.8.8.8:80", link, "", ""},
		{policy.Internet, "git.example.com:443", "git.example.com=10.0.0.1:443", Route{}, "", ""},
		{policy.Internet, "git.example.com:443", "git.example.com=10.0.0.1:80", Route{}, "private", "git.example.com:80"},
		{policy.Internet, "git.example.com:443", "git.example.com=8.8.8.8:80", Route{}, "", ""},
		{policy.Internet, "git.example.com", "git.example.com=10.0.0.1:80", own, "own address", "10.0.0.1:80"},
		{policy.Internet, "git.example.com", "other.example.com=10.0.0.1:80", Route{}, "private", "other.example.com:80"},
		{policy.None, "git.example.com", "git.example.com=10.0.0.1:80", link, "", ""},
		{policy.None, "git.example.com", "git.example.com=8.8.8.8:80", Route{}, "", ""},
		{policy.None, "git.example.com", "git.example.com=8.8.8.8:80", own, "own address", "8.8.8.8:80"},
		{policy.None, "git.example.com", "git.example.com=127.0.0.1:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "git.example.com", "git.example.com=[::1]:80", own, "localhost", "localhost:80"},
		{policy.None, "git.example.com", "git.example.com=0.0.0.0:80", Route{}, "unspecified", ""},
		{policy.None, "git.example.com", "git.example.com=[::ffff:127.0.0.1]:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "git.example.com", "git.example.com=[64:ff9b::127.0.0.1]:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "git.example.com", "git.example.com=169.254.169.254:80", Route{}, "metadata", "169.254.169.254:80"},
		{policy.None, "git.example.com", "git.example.com=168.63.129.16:80", Route{}, "metadata", "168.63.129.16:80"},
		{policy.None, "git.example.com", "git.example.com=[fe80::1]:80", link, "link-local", "[fe80::1]:80"},
		{policy.None, "git.example.com", "git.example.com=224.0.0.1:80", Route{}, "multicast", ""},
		{policy.None, "git.example.com", "git.example.com=240.0.0.1:80", Route{}, "reserved", "240.0.0.1:80"},

		// A wildcard is public only.
		{policy.None, "*.example.com", "a.example.com=8.8.8.8:80", Route{}, "", ""},
		{policy.None, "*.example.com", "a.example.com=8.8.8.8:80", link, "network that the host is on", "a.example.com:80"},
		{policy.None, "*.example.com", "evilexample.com=8.8.8.8:80", Route{}, "no rule allows the name", "evilexample.com:80"},
		{policy.None, "*.example.com", "a.example.com=10.0.0.1:80", Route{}, "private", "a.example.com:80"},
		{policy.None, "*.example.com", "example.com=8.8.8.8:80", Route{}, "no rule allows the name", "example.com:80"},
		{policy.None, "*.example.com a.example.com", "a.example.com=10.0.0.1:80", Route{}, "", ""},
		{policy.None, "*.example.com a.example.com:443", "a.example.com=10.0.0.1:80", Route{}, "private", "a.example.com:80"},

		// With an allow-list, names and addresses are different things.
		{policy.None, "", "8.8.8.8:443", Route{}, "no rule allows the address", "8.8.8.8:443"},
		{policy.None, "git.example.com", "8.8.8.8:443", Route{}, "no rule allows the address", "8.8.8.8:443"},
		{policy.None, "git.example.com", "other.example.com=8.8.8.8:443", Route{}, "no rule allows the name", "other.example.com:443"},
		{policy.None, "git.example.com:443", "git.example.com=8.8.8.8:80", Route{}, "other ports", "git.example.com:80"},
		{policy.None, "git.example.com:443", "ping git.example.com=8.8.8.8", Route{}, "single ports", "git.example.com"},
		{policy.None, "git.example.com", "ping git.example.com=8.8.8.8", Route{}, "", ""},
		{policy.None, "git.example.com", "udp git.example.com=8.8.8.8:53", Route{}, "", ""},
		{policy.None, "git.example.com", "udp git.example.com=8.8.8.8:443", Route{}, "QUIC", ""},
		{policy.None, "*.example.com:443", "udp a.example.com=8.8.8.8:443", Route{}, "QUIC", ""},
		{policy.Internet, "git.example.com", "udp git.example.com=8.8.8.8:443", Route{}, "", ""},

		// A range is what lies in it, but never the host, nor its metadata.
		{policy.None, "10.0.0.0/8", "10.1.2.3:80", link, "", ""},
		{policy.None, "10.0.0.0/8:443", "10.1.2.3:80", Route{}, "no rule", "10.1.2.3:80"},
		{policy.None, "10.0.0.0/8:443", "10.1.2.3:443", Route{}, "", ""},
		{policy.None, "10.0.0.0/8", "udp 10.1.2.3:443", Route{}, "", ""},
		{policy.None, "10.0.0.0/8", "git.example.com=10.1.2.3:80", Route{}, "", ""},
		{policy.None, "10.0.0.0/8", "ping 10.1.2.3", Route{}, "", ""},
		{policy.None, "10.0.0.0/8:443", "ping 10.1.2.3", Route{}, "no rule", "10.1.2.3"},
		{policy.None, "10.0.0.0/8", "10.1.2.3:80", own, "no rule", "10.1.2.3:80"},
		{policy.None, "10.0.0.0/8", "10.1.2.3:80", Route{Broadcast: true}, "broadcast", ""},
		{policy.None, "0.0.0.0/0", "8.8.8.8:80", Route{}, "", ""},
		{policy.None, "0.0.0.0/0", "240.0.0.1:80", Route{}, "", ""},
		{policy.None, "0.0.0.0/0", "[::ffff:10.0.0.1]:80", Route{}, "", ""},
		{policy.None, "0.0.0.0/0 ::/0", "127.0.0.1:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "0.0.0.0/0 ::/0", "0.0.0.0:80", Route{}, "unspecified", ""},
		{policy.None, "0.0.0.0/0 ::/0", "169.254.169.254:80", Route{}, "no rule", "169.254.169.254:80"},
		{policy.None, "0.0.0.0/0 ::/0", "169.254.1.1:80", Route{}, "no rule", "169.254.1.1:80"},
		{policy.None, "0.0.0.0/0 ::/0", "224.0.0.1:80", Route{}, "multicast", ""},
		{policy.None, "0.0.0.0/0 ::/0", "255.255.255.255:80", Route{}, "broadcast", ""},
		{policy.None, "0.0.0.0/0 ::/0", "[::1]:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[64:ff9b::127.0.0.1]:80", Route{}, "localhost", "localhost:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[64:ff9b::169.254.169.254]:80", Route{}, "no rule", "[64:ff9b::a9fe:a9fe]:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[2002:a9fe:a9fe::1]:80", Route{}, "no rule", "[2002:a9fe:a9fe::1]:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[fd00:ec2::254]:80", Route{}, "no rule", "[fd00:ec2::254]:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[2001::1]:80", Route{}, "no rule", "[2001::1]:80"},
		{policy.None, "0.0.0.0/0 ::/0", "[fe80::1]:80", Route{}, "no rule", "[fe80::1]:80"},
		{policy.Internet, "0.0.0.0/0 ::/0", "169.254.169.254:80", Route{}, "metadata", "169.254.169.254:80"},
		{policy.Internet, "10.0.0.0/8", "a.example.com=10.0.0.1:80", link, "", ""},

		// A single address is meant, whatever it is.
		{policy.None, "169.254.169.254:80", "169.254.169.254:80", Route{}, "", ""},
		{policy.None, "169.254.169.254:80", "169.254.169.254:81", Route{}, "no rule", "169.254.169.254:81"},
		{policy.None, "169.254.169.254", "evil.example.com=169.254.169.254:80", Route{}, "", ""},
		{policy.None, "fe80::1", "[fe80::1]:80", link, "", ""},
		{policy.None, "10.0.0.1", "10.0.0.1:80", own, "", ""},
		{policy.None, "10.0.0.1", "10.0.0.1:80", Route{Broadcast: true}, "broadcast", ""},
		{policy.None, "localhost:80", "127.0.0.1:80", own, "localhost", "localhost:80"},

		// A look-up does not know the port yet.
		{policy.None, "git.example.com:443", "git.example.com=10.0.0.1", Route{}, "", ""},
		{policy.None, "git.example.com:443", "git.example.com=127.0.0.1", Route{}, "localhost", ""},
		{policy.None, "10.0.0.0/8:443", "git.example.com=10.0.0.1", Route{}, "", ""},
		{policy.Host, "", "8.8.8.8:80", Route{}, "no rule", "8.8.8.8:80"},
	}
	for _, test := range tests {
		p := NewPolicy(test.base, rules(t, test.rules), false)
		err := p.Allow(flow(t, test.flow), test.route)
		var d *Denied
		if test.fault == "" {
			if err != nil {
				t.Errorf("%v %q, %s %+v: %v", test.base, test.rules, test.flow, test.route, err)
			}
			continue
		}
		fix := test.fix
		if fix != "" {
			fix = "--net-allow " + fix
		}
		if !errors.As(err, &d) || !strings.Contains(d.Reason, test.fault) || d.Allow() != fix {
			t.Errorf("%v %q, %s %+v: %v (%s), want %q (%s)", test.base, test.rules, test.flow, test.route, err, d.Allow(), test.fault, fix)
		}
	}
}

// flow reads a flow: [udp |ping ][NAME=]ADDR[:PORT].
func flow(t testing.TB, s string) (f Flow) {
	t.Helper()
	if rest, ok := strings.CutPrefix(s, "udp "); ok {
		s, f.Proto = rest, UDP
	} else if rest, ok := strings.CutPrefix(s, "ping "); ok {
		s, f.Proto = rest, Ping
	}
	if name, rest, ok := strings.Cut(s, "="); ok {
		s, f.Name = rest, name
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		f.Addr, f.Port = ap.Addr(), ap.Port()
	} else {
		f.Addr = netip.MustParseAddr(strings.Trim(s, "[]"))
	}
	return f
}

// TestNothingReachesTheHost goes through every spelling of what must not be reached,
// with every rule short of naming the address.
func TestNothingReachesTheHost(t *testing.T) {
	all := rules(t, "0.0.0.0/0 ::/0 a.example.com *.example.com 10.0.0.0/8 1.2.3.4 localhost:80")
	for _, c := range classes {
		if c.class > LinkLocal {
			continue
		}
		for _, s := range c.addrs {
			a := netip.MustParseAddr(s)
			for _, a := range append(spellings(a.Unmap()), a) {
				for _, base := range []policy.Network{policy.None, policy.Internet} {
					for _, name := range []string{"", "a.example.com", "b.example.com", "c.example.org"} {
						for _, proto := range []Proto{TCP, UDP, Ping} {
							f := Flow{Proto: proto, Name: name, Addr: a, Port: 80}
							if err := NewPolicy(base, all, false).Allow(f, Route{}); err == nil && Classify(a) <= LinkLocal {
								t.Errorf("%v: %+v is allowed", base, f)
							}
						}
					}
				}
			}
		}
	}
}

// TestAllowIsFix holds that the flag in a denial allows what was denied, if there is
// one and it is no rule for localhost.
func TestAllowIsFix(t *testing.T) {
	for _, c := range classes {
		for _, s := range c.addrs {
			for _, name := range []string{"", "a.example.com"} {
				for _, r := range []Route{{}, {Own: true}, {OnLink: true}} {
					f := Flow{Name: name, Addr: netip.MustParseAddr(s), Port: 80}
					var d *Denied
					err := NewPolicy(policy.None, nil, false).Allow(f, r)
					for range 3 { // a rule for the name may not be enough
						if !errors.As(err, &d) {
							break
						}
						typed, ok := strings.CutPrefix(d.Allow(), "--net-allow ")
						if !ok || strings.HasPrefix(typed, "localhost:") {
							break
						}
						err = NewPolicy(policy.None, rules(t, typed), false).Allow(f, r)
						if err != nil && name == "" {
							t.Errorf("%+v %+v: %s does not help: %v", f, r, d.Allow(), err)
						}
					}
				}
			}
		}
	}
}

func TestAllowProxied(t *testing.T) {
	tests := []struct {
		base  policy.Network
		flow  Flow
		fault string
	}{
		{policy.None, Flow{Name: "git.example.com", Port: 443}, ""},
		{policy.None, Flow{Name: "git.example.com", Port: 80}, "other ports"},
		{policy.None, Flow{Name: "other.example.com", Port: 443}, "no rule"},
		{policy.Internet, Flow{Name: "other.example.com", Port: 443}, ""},
		{policy.Internet, Flow{Name: "git.example.com", Port: 80}, ""},
		{policy.Internet, Flow{Name: "metadata.google.internal", Port: 80}, "no rule"},
		{policy.Internet, Flow{Name: "localhost", Port: 80}, "no rule"},
		{policy.Internet, Flow{Name: "127.0.0.1", Port: 80}, "no rule"},
		{policy.Internet, Flow{Name: "2130706433", Port: 80}, "no rule"},
		{policy.Internet, Flow{Port: 80}, "no rule"},
		{policy.Internet, Flow{Name: "a.example.com", Port: 443, Proto: UDP}, "TCP alone"},
	}
	for _, test := range tests {
		err := NewPolicy(test.base, rules(t, "git.example.com:443"), true).AllowProxied(test.flow)
		if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%v %+v: %v, want %q", test.base, test.flow, err, test.fault)
		}
	}
}

// TestDeniedText holds the grammar of errors, and that no byte of the sandbox's can
// confuse a terminal.
func TestDeniedText(t *testing.T) {
	addr := netip.MustParseAddr("2600::1")
	for want, d := range map[string]*Denied{
		`cannot look up a.example.com: r`:                  {Flow: Flow{Name: "a.example.com"}, Reason: "r"},
		`cannot look up "\x1b[2J": r`:                      {Flow: Flow{Name: "\x1b[2J"}, Reason: "r"},
		`cannot connect to [2600::1]:80: r`:                {Flow: Flow{Addr: addr, Port: 80}, Reason: "r"},
		`cannot ping 2600::1: r`:                           {Flow: Flow{Addr: addr, Proto: Ping}, Reason: "r"},
		`cannot send UDP to a.example.com:53 (2600::1): r`: {Flow: Flow{Name: "a.example.com", Addr: addr, Proto: UDP, Port: 53}, Reason: "r"},
		`cannot connect to a.example.com:443: r`:           {Flow: Flow{Name: "a.example.com", Port: 443}, Reason: "r"},
	} {
		if got := d.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	p := NewPolicy(policy.None, nil, false)
	for _, name := range []string{"a\x1b[31m.example.com", "0x7f.1", "a b", "x.onion", "--net=host", "$(reboot).example.com", "a;b"} {
		if d := p.Refusal(name); d.Allow() != "" || d.Reason == "" {
			t.Errorf("%q: %v, %q", name, d, d.Allow())
		}
	}
	for s, hint := range map[string]string{"169.254.169.254:80": "", "[fe80::1]:80": "", "10.0.0.1:80": "--net-allow 10.0.0.1:80"} {
		var d *Denied
		if err := NewPolicy(policy.None, nil, false).Allow(flow(t, s), Route{}); !errors.As(err, &d) || d.Hint() != hint || d.Allow() != "--net-allow "+s {
			t.Errorf("%s: %v, hint %q", s, err, d.Hint())
		}
	}
	if d := NewPolicy(policy.Internet, nil, false).Refusal("nas.local"); d.Allow() != "--net-allow nas.local" {
		t.Errorf("%v, %q", d, d.Allow())
	}
}
