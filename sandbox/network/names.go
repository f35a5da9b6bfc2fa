package network

import (
	"container/list"
	"net/netip"
	"sync"

	"github.com/sbx-build/sbx/sandbox/policy"
)

const (
	// maxNames bounds the names that have a fake address.
	maxNames = 65536
	// maxLearned bounds the addresses of which a name is remembered.
	maxLearned = 4096
	// perBlock are the addresses used of each 256: neither the first nor the last,
	// which some programs take for a network and its broadcast address.
	perBlock = 254
)

// Names are the fake addresses of names, and the names of real addresses. A fake
// address is for one name for as long as the sandbox lives, since nobody knows who
// remembers it: when there are none left, new names get none.
type Names struct {
	mu     sync.Mutex
	fake   map[string]netip.Addr
	names  []string
	learnt map[netip.Addr]*list.Element
	recent list.List // of learned, the most recent in front
}

type learned struct {
	addr netip.Addr
	name string
}

// NewNames makes an empty one.
func NewNames() *Names {
	return &Names{fake: map[string]netip.Addr{}, learnt: map[netip.Addr]*list.Element{}}
}

// IsFake says whether an address is of those that stand for names.
func IsFake(a netip.Addr) bool { return policy.FakeNetwork().Contains(a) }

// nth is the address of the nth name: of 198.18.1.0 and after, as the first block
// is for the sandbox's own addresses.
func nth(n int) netip.Addr {
	block, low := 1+n/perBlock, 1+n%perBlock
	return netip.AddrFrom4([4]byte{198, byte(18 + block>>8), byte(block), byte(low)})
}

// index is the inverse of nth, -1 for what it never gives.
func index(a netip.Addr) int {
	if !IsFake(a) {
		return -1
	}
	b := a.As4()
	block := int(b[1]-18)<<8 | int(b[2])
	if block == 0 || b[3] == 0 || b[3] == 255 {
		return -1
	}
	return (block-1)*perBlock + int(b[3]) - 1
}

// Fake is the address that stands for a name, the same each time; ok is false when
// there are none left.
func (n *Names) Fake(name string) (addr netip.Addr, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr, ok = n.fake[name]; ok {
		return addr, true
	}
	if len(n.names) >= maxNames {
		return netip.Addr{}, false
	}
	addr = nth(len(n.names))
	n.fake[name] = addr
	n.names = append(n.names, name)
	return addr, true
}

// Name is the name that a fake address stands for.
func (n *Names) Name(addr netip.Addr) (name string, ok bool) {
	i := index(addr)
	if i < 0 {
		return "", false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if i >= len(n.names) {
		return "", false
	}
	return n.names[i], true
}

// Learn notes that a real address was in the answer for a name.
func (n *Names) Learn(addr netip.Addr, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e, ok := n.learnt[addr]; ok {
		e.Value.(*learned).name = name
		n.recent.MoveToFront(e)
		return
	}
	if n.recent.Len() >= maxLearned {
		last := n.recent.Back()
		delete(n.learnt, last.Value.(*learned).addr)
		n.recent.Remove(last)
	}
	n.learnt[addr] = n.recent.PushFront(&learned{addr, name})
}

// Learned is the last name in whose answer a real address was, or "". It is for
// people to read, not for decisions: others may have the same address.
func (n *Names) Learned(addr netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e, ok := n.learnt[addr]; ok {
		return e.Value.(*learned).name
	}
	return ""
}
