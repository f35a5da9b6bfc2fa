package network

import (
	"net/netip"
	"testing"
)

// classes has every kind of address, the first and the last of each range, and what
// lies next to it.
var classes = []struct {
	class Class
	addrs []string
}{
	{Unspecified, []string{"0.0.0.0", "0.0.0.1", "0.255.255.255", "::", "::ffff:0.0.0.0", "64:ff9b::"}},
	{Loopback, []string{"127.0.0.0", "127.0.0.1", "127.1.2.3", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:7f00:1::1", "2600::5efe:127.0.0.1", "2600::200:5efe:7f00:1"}},
	{LinkLocal, []string{"169.254.0.0", "169.254.0.1", "169.254.169.253", "169.254.169.255", "169.254.255.255", "fe80::", "fe80::1", "febf:ffff::1", "::ffff:169.254.1.1", "64:ff9b::169.254.1.1", "2002:a9fe:101::"}},
	{Metadata, []string{"169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"}},
	{Private, []string{"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255", "100.64.0.0", "100.127.255.255",
		"198.18.0.0", "198.19.255.255", "192.0.0.0", "192.0.0.8", "192.0.2.1", "198.51.100.1", "203.0.113.1", "fc00::", "fd00::1", "fdff:ffff::1", "fec0::1", "feff::1",
		"2001:db8::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::192.168.1.1", "2002:c0a8:101::1", "2600::5efe:10.0.0.1"}},
	{Multicast, []string{"224.0.0.0", "224.0.0.251", "239.255.255.255", "ff00::", "ff02::1", "ffff::1", "::ffff:224.0.0.1"}},
	{Broadcast, []string{"255.255.255.255", "::ffff:255.255.255.255", "64:ff9b::255.255.255.255"}},
	{Reserved, []string{"240.0.0.0", "255.255.255.254", "192.88.99.1", "100::1", "200::1", "400::1", "1fff::1", "4000::1", "5f00::1", "8000::1", "fe00::1", "fbff::1", "2001:2::1", "2001:10::1", "2001:1f::1", "2001:20::1", "2001:1ff::1", "64:ff9b:2::1", "64:ff9a::1"}},
	{Tunnel, []string{"::2", "::127.0.0.1", "::8.8.8.8", "64:ff9b:1::1", "64:ff9b:1:ffff::8.8.8.8", "2001::1", "2001:0:ffff::1"}},
	{Public, []string{"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.17",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2600::1", "3ffe::1", "3fff:1000::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2600::5efe:8.8.8.8"}},
}

func TestClassify(t *testing.T) {
	for _, c := range classes {
		for _, s := range c.addrs {
			a := netip.MustParseAddr(s)
			if got := Classify(a); got != c.class || got.Public() != (c.class == Public) {
				t.Errorf("%s is %s, want %s", s, got, c.class)
			}
			if !a.Is4() {
				if got := Classify(a.WithZone("eth0")); got != Invalid {
					t.Errorf("%s with a zone is %s", s, got)
				}
				continue
			}
			for _, s := range spellings(a) {
				if got := Classify(s); got != c.class && got != Tunnel && s != netip.IPv6Loopback() {
					t.Errorf("%s, which is %s, is %s, want %s", s, a, got, c.class)
				}
			}
		}
	}
	if got := Classify(netip.Addr{}); got != Invalid {
		t.Errorf("no address is %s", got)
	}
}

// spellings are the IPv6 addresses by which packets reach an IPv4 address.
func spellings(a netip.Addr) []netip.Addr {
	if !a.Is4() {
		return nil
	}
	b := a.As4()
	in := func(at int, front [16]byte) netip.Addr {
		six := front
		copy(six[at:], b[:])
		return netip.AddrFrom16(six)
	}
	return []netip.Addr{
		in(12, [16]byte{10: 0xff, 11: 0xff}),
		in(12, [16]byte{0, 0x64, 0xff, 0x9b}),
		in(2, [16]byte{0x20, 0x02}),
		in(12, [16]byte{}),
	}
}

// TestClassNames holds that each class has words.
func TestClassNames(t *testing.T) {
	seen := map[string]bool{}
	for c := Invalid; c <= Public; c++ {
		if s := c.String(); seen[s] || s[0] == 'C' {
			t.Errorf("the class %d is called %q", c, s)
		} else {
			seen[s] = true
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	four, six := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2600::1")
	for b.Loop() {
		if !Classify(four).Public() || !Classify(six).Public() {
			b.Fatal("not public")
		}
	}
}
