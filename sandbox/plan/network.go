package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// The addresses of the sandbox's network. The IPv4 ones are of the range for
// benchmarks (RFC 2544), the IPv6 ones are unique local addresses (RFC 4193); none
// leaves the machine.
var (
	// ResolverAddr is where programs ask for names.
	ResolverAddr = netip.MustParseAddr("198.18.0.1")
	// SandboxAddr and SandboxAddr6 are those of the sandbox.
	SandboxAddr  = netip.MustParseAddr("198.18.0.2")
	SandboxAddr6 = netip.MustParseAddr("fd73:6278::2")
	// RelayAddr and RelayAddr6 are those at which the sockets listen that sbx has in
	// the sandbox's network. A connection there that sbx has not offered is reset.
	RelayAddr  = netip.MustParseAddr("198.18.0.3")
	RelayAddr6 = netip.MustParseAddr("fd73:6278::3")
	// PeerPrefix6 has the addresses under which programs appear there; see package
	// network.
	PeerPrefix6 = netip.MustParsePrefix("fd73:6278:0:1::/64")
)

const (
	// RelayPort is where they listen: no port that a build could have.
	RelayPort = 1
	// InterfaceName and InterfaceIndex are those of the sandbox's interface. The
	// index is chosen, so that requests can be written before it exists.
	InterfaceName  = "sbx0"
	InterfaceIndex = 7351
	// WireName and WireIndex are those of the other end, where it is an interface.
	WireName  = "sbx1"
	WireIndex = 7352
	// MTU makes the kernel hand over what it can in one piece, 64 KiB.
	MTU = 65520
)

// WireMAC and InterfaceMAC are the addresses on a virtual Ethernet.
var (
	InterfaceMAC = [6]byte{2, 's', 'b', 'x', 0, 0}
	WireMAC      = [6]byte{2, 's', 'b', 'x', 0, 1}
)

type (
	// Interface makes the sandbox's network interface, and sends sbx its other end: a
	// descriptor from which sbx reads the packets that the sandbox sends, each behind a
	// struct virtio_net_hdr, and to which it writes those that the sandbox gets.
	Interface struct {
		// TUN says that it is a TUN device (Documentation/networking/tuntap.rst), for
		// which the host has a device node. Else it is one end of a veth(4) pair, of
		// which the other end has a packet(7) socket.
		TUN bool
		// IPv6 says that the host has IPv6, and so the sandbox.
		IPv6 bool
	}
	// Listen makes a listening socket, and sends it to sbx.
	Listen struct {
		Addr netip.AddrPort
		// Bound binds it to the interface (SO_BINDTODEVICE in socket(7)). What programs
		// send to the address themselves counts as having come there.
		Bound bool
	}
	// Sockets makes sockets and sends them to sbx.
	Sockets struct{ Count int }
	// Sysctl sets a variable of the sandbox's network (sysctl(8)), where it exists.
	Sysctl struct{ Name, Value string }
)

func (Interface) isStep() {}
func (Listen) isStep()    {}
func (Sockets) isStep()   {}
func (Sysctl) isStep()    {}

func (s Interface) String() string {
	kind, addrs := "veth", SandboxAddr.String()
	if s.TUN {
		kind = "tun"
	}
	if s.IPv6 {
		addrs += " " + SandboxAddr6.String()
	}
	return line("interface", InterfaceName, kind, addrs)
}

func (s Listen) String() string {
	if s.Bound {
		return line("listen", s.Addr.String(), InterfaceName)
	}
	return line("listen", s.Addr.String())
}

func (s Sockets) String() string { return line("sockets", fmt.Sprint(s.Count)) }

func (s Sysctl) String() string { return line("sysctl", s.Name+"="+s.Value) }

// network connects the sandbox's network namespace with sbx.
func (b *builder) network(wire Interface) {
	b.add(wire, Listen{Addr: netip.AddrPortFrom(RelayAddr, RelayPort), Bound: true})
	if wire.IPv6 {
		b.add(Listen{Addr: netip.AddrPortFrom(RelayAddr6, RelayPort), Bound: true})
	}
}

// localPorts are those of the host's localhost that the policy opens.
func (b *builder) localPorts() {
	for _, port := range b.policy.LocalPorts() {
		for _, lo := range loopback {
			b.add(Listen{Addr: netip.AddrPortFrom(lo, port)})
		}
	}
}

// loopback are the addresses to which "localhost" resolves.
var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// tcp has programs send as fast as sbx takes it, however the host does it: no network is
// between that could be congested, and pacing (bbr) only waits for a clock. What every
// kernel has is reno.
func (b *builder) tcp() {
	if b.policy.Relayed() {
		b.add(Sysctl{Name: "net.ipv4.tcp_congestion_control", Value: "reno"})
	}
}

// ping lets programs send echo requests without a capability (icmp(7)), where the
// host lets the caller.
func (b *builder) ping() {
	if !b.policy.Relayed() || !b.facts.Ping {
		return
	}
	gid := b.facts.GID
	if b.policy.Root {
		gid = 0
	}
	b.add(Sysctl{Name: "net.ipv4.ping_group_range", Value: fmt.Sprintf("%d %d", gid, gid)})
}

// resolvConf is resolv.conf(5).
func resolvConf(p policy.Policy, f host.Facts) string {
	switch {
	case p.Network == policy.Host:
		return f.Resolv
	case p.Relayed():
		return "nameserver " + ResolverAddr.String() + "\n"
	}
	return "# no network\n"
}

// BuildSockets makes sockets in the network namespace of a run.
func BuildSockets(count int) Plan {
	return Plan{Namespaces: Namespaces{Shared: true}, Steps: []Step{Join{Kinds: []string{"user", "net"}}, Sockets{Count: count}}}
}

// Part is something of the sandbox's network that the plan sends sbx.
type Part struct {
	// Wire is the interface's other end; else it is a socket that listens at Addr.
	Wire bool
	Addr netip.AddrPort
}

// Parts are what the plan sends, in the order of its steps.
func (p Plan) Parts() []Part {
	var list []Part
	for _, s := range p.Steps {
		switch s := s.(type) {
		case Interface:
			list = append(list, Part{Wire: true})
		case Listen:
			list = append(list, Part{Addr: s.Addr})
		}
	}
	return list
}

// Path is the file of the variable, relative to /proc/sys.
func (s Sysctl) Path() string { return strings.ReplaceAll(s.Name, ".", "/") }
