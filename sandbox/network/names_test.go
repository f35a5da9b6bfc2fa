package network

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestNames holds that an address is for one name, and a name has one address.
func TestNames(t *testing.T) {
	n := NewNames()
	seen := map[netip.Addr]bool{}
	for i := range maxNames {
		name := fmt.Sprint(i)
		a, ok := n.Fake(name)
		if !ok || seen[a] || !IsFake(a) {
			t.Fatalf("the name %d has got %s, %v", i, a, ok)
		}
		seen[a] = true
		if b := a.As4(); b[3] == 0 || b[3] == 255 || b[1] == 18 && b[2] == 0 {
			t.Fatalf("the name %d has got %s", i, a)
		}
		if got, ok := n.Name(a); got != name || !ok {
			t.Fatalf("%s is of %q, want %q", a, got, name)
		}
	}
	if a, ok := n.Fake("one more"); ok {
		t.Errorf("one more than there are has got %s", a)
	}
	if a, ok := n.Fake("0"); !ok || a != netip.MustParseAddr("198.18.1.1") {
		t.Errorf("the first has become %s, %v", a, ok)
	}
}

// TestNamesOthers holds that addresses that were not given out are of no name.
func TestNamesOthers(t *testing.T) {
	n := NewNames()
	n.Fake("a.example.com")
	for _, s := range []string{"198.18.1.2", "198.18.0.1", "198.18.0.0", "198.18.1.0", "198.18.1.255", "198.19.255.254", "198.20.0.1", "198.17.1.1", "8.8.8.8", "::ffff:198.18.1.1", "2600::1"} {
		if got, ok := n.Name(netip.MustParseAddr(s)); ok {
			t.Errorf("%s is of %q", s, got)
		}
	}
	if got, ok := n.Name(netip.Addr{}); ok {
		t.Errorf("no address is of %q", got)
	}
}

// TestLearned holds that the last name counts, and that old addresses are forgotten.
func TestLearned(t *testing.T) {
	n := NewNames()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}) }
	for i := range maxLearned {
		n.Learn(addr(i), "old")
	}
	n.Learn(addr(0), "new")
	for i := range maxLearned - 1 {
		n.Learn(addr(maxLearned+i), "newer")
	}
	if a, b, c := n.Learned(addr(0)), n.Learned(addr(1)), n.Learned(addr(maxLearned)); a != "new" || b != "" || c != "newer" {
		t.Errorf("%q %q %q", a, b, c)
	}
	if len(n.learnt) != maxLearned || n.recent.Len() != maxLearned {
		t.Errorf("%d and %d are known", len(n.learnt), n.recent.Len())
	}
}
