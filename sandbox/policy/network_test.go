package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestParseNetAllow goes through the spellings of --net-allow, and what is said of
// those that mean something else than was thought.
func TestParseNetAllow(t *testing.T) {
	single := func(s string) netip.Prefix {
		a := netip.MustParseAddr(s)
		return netip.PrefixFrom(a, a.BitLen())
	}
	tests := []struct {
		in    string
		want  NetRule
		fault string
	}{
		{in: "registry.example.com", want: NetRule{Name: "registry.example.com"}},
		{in: "Registry.Example.COM.:443", want: NetRule{Name: "registry.example.com", Port: 443}},
		{in: "registry", want: NetRule{Name: "registry"}},
		{in: "my_service.example.com", want: NetRule{Name: "my_service.example.com"}},
		{in: "xn--bcher-kva.example", want: NetRule{Name: "xn--bcher-kva.example"}},
		{in: "printer.local:631", want: NetRule{Name: "printer.local", Port: 631}},
		{in: "*.example.com", want: NetRule{Name: "example.com", Wildcard: true}},
		{in: "*.Example.com:65535", want: NetRule{Name: "example.com", Wildcard: true, Port: 65535}},
		{in: "10.1.0.0/16", want: NetRule{Prefix: netip.MustParsePrefix("10.1.0.0/16")}},
		{in: "10.1.0.0/16:5000", want: NetRule{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Port: 5000}},
		{in: "0.0.0.0/0", want: NetRule{Prefix: netip.MustParsePrefix("0.0.0.0/0")}},
		{in: "8.8.8.8", want: NetRule{Prefix: single("8.8.8.8")}},
		{in: "8.8.8.8/32:53", want: NetRule{Prefix: single("8.8.8.8"), Port: 53}},
		{in: "169.254.169.254:80", want: NetRule{Prefix: single("169.254.169.254"), Port: 80}},
		{in: "[2001:db8::1]:443", want: NetRule{Prefix: single("2001:db8::1"), Port: 443}},
		{in: "[2001:db8::1]", want: NetRule{Prefix: single("2001:db8::1")}},
		{in: "2001:db8::1", want: NetRule{Prefix: single("2001:db8::1")}},
		{in: "fd00::/8", want: NetRule{Prefix: netip.MustParsePrefix("fd00::/8")}},
		{in: "[fd00::/8]:443", want: NetRule{Prefix: netip.MustParsePrefix("fd00::/8"), Port: 443}},
		{in: "::/0", want: NetRule{Prefix: netip.MustParsePrefix("::/0")}},
		{in: "localhost:5432", want: NetRule{Localhost: true, Port: 5432}},
		{in: "LOCALHOST.:5432", want: NetRule{Localhost: true, Port: 5432}},

		{in: "", fault: "empty"},
		{in: ":443", fault: "write NAME:443, or localhost:443"},
		{in: ":", fault: "no name before"},
		{in: "registry.example.com:", fault: "no port after"},
		{in: "registry.example.com:0", fault: `"0" is no port`},
		{in: "registry.example.com:65536", fault: `"65536" is no port`},
		{in: "registry.example.com:+1", fault: "is no port"},
		{in: "registry.example.com:https", fault: "is no port"},
		{in: "registry.example.com:80-90", fault: "is no port"},
		{in: "https://registry.example.com/x", fault: "write registry.example.com:443"},
		{in: "http://user:pw@registry.example.com", fault: "write registry.example.com:80"},
		{in: "https://registry.example.com:8443?q", fault: "write registry.example.com:8443"},
		{in: "ssh://git@git.example.com/r", fault: "write git.example.com:22"},
		{in: "https://", fault: "write NAME or NAME:PORT"},
		{in: "https://https://x", fault: "it is a URL; write"},
		{in: "registry.example.com:443/path", fault: "write registry.example.com:443"},
		{in: "registry.example.com/path", fault: "neither a name nor a range"},
		{in: "*", fault: "--net=internet"},
		{in: "*:443", fault: "--net=internet"},
		{in: "*.com", fault: "everybody's"},
		{in: "*.", fault: "every name"},
		{in: "*.*.example.com", fault: "whole labels"},
		{in: "a*.example.com", fault: "whole labels"},
		{in: "www.*.com", fault: "whole labels"},
		{in: ".example.com", fault: "write *.example.com"},
		{in: "*.localhost", fault: "everybody's"},
		{in: "*.x.localhost:1", fault: "below localhost"},
		{in: "x.localhost:1", fault: "below localhost"},
		{in: "x.invalid", fault: "do not exist"},
		{in: "x.onion", fault: "do not exist"},
		{in: "*.corp.internal", fault: "one by one"},
		{in: "*.home.arpa", fault: "one by one"},
		{in: "localhost", fault: "write localhost:PORT"},
		{in: "127.0.0.1:80", fault: "write localhost:PORT"},
		{in: "127.8.9.1", fault: "write localhost:PORT"},
		{in: "127.0.0.0/8", fault: "write localhost:PORT"},
		{in: "[::1]:80", fault: "write localhost:PORT"},
		{in: "::1", fault: "write localhost:PORT"},
		{in: "::ffff:127.0.0.1", fault: "write it as the IPv4 address that it contains: 127.0.0.1"},
		{in: "::ffff:10.0.0.0/104", fault: "contains: 10.0.0.0/8"},
		{in: "::ffff:0:0/90", fault: "contains IPv4 addresses"},
		{in: "0.0.0.0", fault: "no address that can be connected to"},
		{in: "0.1.2.3", fault: "no address that can be connected to"},
		{in: "::", fault: "no address that can be connected to"},
		{in: "224.0.0.251", fault: "multicast"},
		{in: "255.255.255.255", fault: "broadcast"},
		{in: "ff02::1", fault: "multicast"},
		{in: "ff00::/8", fault: "multicast"},
		{in: "fe80::1%eth0", fault: "zone"},
		{in: "[fe80::1%25eth0]:80", fault: "zone"},
		{in: "10.1.2.3/16", fault: "write 10.1.2.3 or 10.1.0.0/16"},
		{in: "198.18.0.0/15", fault: "used inside"},
		{in: "198.19.4.4", fault: "used inside"},
		{in: "10.0.0.0/33", fault: "neither a name nor a range"},
		{in: "::1:7756", fault: "localhost:443"},
		{in: "::7f00:1", fault: "no address that can be connected to"},
		{in: "fd73:6278::3", fault: "used inside the sandbox"},
		{in: "[fd73:6278:0:1::9]:1", fault: "used inside the sandbox"},
		{in: "2001:db8::1:443:", fault: "no IPv6 address"},
		{in: "1:2:3", fault: "no IPv6 address"},
		{in: "[2001:db8::1", fault: "bracket is not closed"},
		{in: "[2001:db8::1]443", fault: "only :PORT"},
		{in: "[2001:db8::1]:", fault: "only :PORT"},
		{in: "[10.0.0.1]:80", fault: "only an IPv6 address"},
		{in: "2130706433", fault: "ends in a number"},
		{in: "0177.0.0.1", fault: "ends in a number"},
		{in: "0x7f.1:80", fault: "ends in a number"},
		{in: "0x7f000001", fault: "ends in a number"},
		{in: "127.1", fault: "ends in a number"},
		{in: "1.2.3.4.", fault: "ends in a number"},
		{in: "bücher.example", fault: "xn--"},
		{in: "\uff45xample.com", fault: "xn--"}, // a fullwidth letter
		{in: "a..b", fault: "no host name"},
		{in: "a b", fault: "no host name"},
		{in: "-a.example.com", fault: "no host name"},
		{in: "a-.example.com", fault: "no host name"},
		{in: "a.example.com-", fault: "no host name"},
		{in: "a\x00b.example.com", fault: "no host name"},
		{in: "a\nb.example.com", fault: "no host name"},
		{in: strings.Repeat("a", 64) + ".example.com", fault: "no host name"},
		{in: strings.Repeat("a.", 126) + "ab", fault: "no host name"},
	}
	for _, test := range tests {
		got, err := ParseNetAllow(test.in)
		if test.fault != "" {
			var e *RuleError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, test.fault) || e.Flag != "--net-allow "+test.in || got != (NetRule{}) {
				t.Errorf("ParseNetAllow(%q) = %+v, %v; want %q", test.in, got, err, test.fault)
			}
			continue
		}
		test.want.Flag = "--net-allow " + test.in
		if got != test.want || err != nil {
			t.Errorf("ParseNetAllow(%q) = %+v, %v; want %+v", test.in, got, err, test.want)
		}
		checkNetRule(t, got)
	}
}

// checkNetRule holds what all rules are, and that what is printed can be pasted.
func checkNetRule(t *testing.T, r NetRule) {
	t.Helper()
	kinds := 0
	for _, is := range []bool{r.Name != "", r.Prefix.IsValid(), r.Localhost} {
		if is {
			kinds++
		}
	}
	if kinds != 1 || r.Localhost && r.Port == 0 || r.Wildcard && r.Name == "" || r.Name != "" && !ValidName(r.Name) {
		t.Errorf("%+v is no rule", r)
	}
	if a := r.Prefix.Addr(); r.Prefix.IsValid() && (a.Is4In6() || a.Zone() != "" || r.Prefix != r.Prefix.Masked()) {
		t.Errorf("%+v has a range in an unusual form", r)
	}
	flag := r.String()
	again, err := ParseNetAllow(strings.TrimPrefix(flag, "--net-allow "))
	again.Flag = r.Flag
	if again != r || err != nil {
		t.Errorf("%+v is printed as %q, which is %+v, %v", r, flag, again, err)
	}
}

// TestNetworkWords holds that all three are read and printed.
func TestNetworkWords(t *testing.T) {
	for n, s := range []string{"none", "host", "internet"} {
		if got, err := ParseNetwork(s); got != Network(n) || err != nil || got.String() != s {
			t.Errorf("ParseNetwork(%q) = %v, %v", s, got, err)
		}
	}
	if _, err := ParseNetwork("lan"); err == nil || !strings.Contains(err.Error(), "internet, none or host") {
		t.Errorf("what --net takes is not said: %v", err)
	}
}

func FuzzParseNetAllow(f *testing.F) {
	for _, s := range []string{"a.example.com:443", "*.example.com", "10.0.0.0/8:1", "[2001:db8::1]:443", "fd00::/8", "localhost:1", "https://u:p@a.example.com/x", "0x7f.1", "::ffff:1.2.3.4", "2001:/16"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseNetAllow(s)
		if err == nil {
			checkNetRule(t, r)
		} else if r != (NetRule{}) {
			t.Errorf("%q: %+v, %v", s, r, err)
		}
	})
}

// TestParsePublish goes through the spellings of --publish.
func TestParsePublish(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	tests := []struct {
		in    string
		want  Publish
		fault string
	}{
		{in: "3000", want: Publish{Addr: local, Host: 3000, Sandbox: 3000}},
		{in: "8080:80", want: Publish{Addr: local, Host: 8080, Sandbox: 80}},
		{in: "0:80", want: Publish{Addr: local, Sandbox: 80}},
		{in: "0.0.0.0:8080:80", want: Publish{Addr: netip.MustParseAddr("0.0.0.0"), Host: 8080, Sandbox: 80}},
		{in: "localhost:8080:80", want: Publish{Addr: local, Host: 8080, Sandbox: 80}},
		{in: "[::1]:8080:80", want: Publish{Addr: netip.MustParseAddr("::1"), Host: 8080, Sandbox: 80}},
		{in: "[::]:0:65535", want: Publish{Addr: netip.MustParseAddr("::"), Sandbox: 65535}},
		{in: "auto", want: Publish{Addr: local, Auto: true}},

		{in: "", fault: "empty"},
		{in: "0", fault: "is no port"},
		{in: "8080:0", fault: "is no port"},
		{in: "65536", fault: "is no port"},
		{in: "1:65536", fault: "is no port"},
		{in: "-1:80", fault: "is no port"},
		{in: "+1:80", fault: "is no port"},
		{in: ":80", fault: "is no port"},
		{in: "80:", fault: "is no port"},
		{in: "http:80", fault: "is no port"},
		{in: "AUTO", fault: "is no port"},
		{in: "53:53/udp", fault: "only TCP"},
		{in: "::1:8080:80", fault: "brackets"},
		{in: "1:2:3:4", fault: "brackets"},
		{in: "[::1]:80", fault: "write PORT, HOST:SANDBOX"},
		{in: "[::1]8080:80", fault: "write PORT, HOST:SANDBOX"},
		{in: "[::1]", fault: "write PORT, HOST:SANDBOX"},
		{in: "[::1:8080:80", fault: "brackets"},
		{in: "[127.0.0.1]:8080:80", fault: "brackets"},
		{in: "example.com:8080:80", fault: "no address of the host"},
		{in: "[fe80::1%eth0]:8080:80", fault: "no address to listen on"},
		{in: "[::ffff:127.0.0.1]:8080:80", fault: "no address to listen on"},
		{in: "224.0.0.1:8080:80", fault: "no address to listen on"},
		{in: ":8080:80", fault: "write PORT, HOST:SANDBOX"},
	}
	for _, test := range tests {
		got, err := ParsePublish(test.in)
		if test.fault != "" {
			var e *RuleError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, test.fault) || got != (Publish{}) {
				t.Errorf("ParsePublish(%q) = %+v, %v; want %q", test.in, got, err, test.fault)
			}
			continue
		}
		test.want.Flag = "--publish " + test.in
		if got != test.want || err != nil {
			t.Errorf("ParsePublish(%q) = %+v, %v; want %+v", test.in, got, err, test.want)
		}
		checkPublish(t, got)
	}
}

func checkPublish(t *testing.T, p Publish) {
	t.Helper()
	again, err := ParsePublish(strings.TrimPrefix(p.String(), "--publish "))
	again.Flag = p.Flag
	if again != p || err != nil || !p.Addr.IsValid() || p.Auto != (p.Sandbox == 0) {
		t.Errorf("%+v is printed as %q, which is %+v, %v", p, p, again, err)
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"3000", "1:2", "127.0.0.1:1:2", "[::1]:0:2", "auto", ":::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePublish(s); err == nil {
			checkPublish(t, p)
		}
	})
}
