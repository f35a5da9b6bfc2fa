package network

import (
	"fmt"
	"net/netip"
)

// Class is what kind of place an address is, the worst ones first. The zero value
// is one that nothing may be sent to.
type Class uint8

const (
	// Invalid is no address, or one with a zone.
	Invalid Class = iota
	// Unspecified is 0.0.0.0/8 and ::, which connect(2) takes for the host itself.
	Unspecified
	// Loopback is 127.0.0.0/8 and ::1.
	Loopback
	// Multicast is 224.0.0.0/4 and ff00::/8.
	Multicast
	// Broadcast is 255.255.255.255.
	Broadcast
	// Metadata is where clouds give their machines credentials.
	Metadata
	// LinkLocal is 169.254.0.0/16 and fe80::/10.
	LinkLocal
	// Tunnel is an address from which it cannot be told where a packet comes out.
	Tunnel
	// Reserved is no address of a host, as far as anybody knows.
	Reserved
	// Private is of somebody's own network.
	Private
	// Public is of the internet.
	Public
)

// String is the class in words, as the end of "it is …".
func (c Class) String() string {
	switch c {
	case Invalid:
		return "no address that can be used here"
	case Unspecified:
		return "the unspecified address, which is the host itself"
	case Loopback:
		return "the host's localhost"
	case Multicast:
		return "a multicast address"
	case Broadcast:
		return "a broadcast address"
	case Metadata:
		return "the metadata service of the machine, which gives out credentials"
	case LinkLocal:
		return "a link-local address"
	case Tunnel:
		return "an address with another one inside"
	case Reserved:
		return "a reserved address"
	case Private:
		return "a private address"
	case Public:
		return "a public address"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// Public says whether the address is of the internet.
func (c Class) Public() bool { return c == Public }

// block is a range and its class. Prefixes are arrays, so that the table is data
// of the binary and costs nothing when sbx starts.
type block struct {
	prefix [16]byte
	bits   uint8
	class  Class
}

// blocks4 are IANA's special-purpose IPv4 addresses (RFC 6890 and its registry).
// The first that matches decides; all others are public.
var blocks4 = [...]block{
	{[16]byte{0}, 8, Unspecified},
	{[16]byte{127}, 8, Loopback},
	{[16]byte{169, 254, 169, 254}, 32, Metadata}, // all large clouds
	{[16]byte{169, 254, 170, 2}, 32, Metadata},   // AWS, tasks
	{[16]byte{169, 254, 170, 23}, 32, Metadata},  // AWS, pods
	{[16]byte{169, 254}, 16, LinkLocal},
	{[16]byte{168, 63, 129, 16}, 32, Metadata},   // Azure's agent, a public address
	{[16]byte{100, 100, 100, 200}, 32, Metadata}, // Alibaba
	{[16]byte{192, 0, 0, 192}, 32, Metadata},     // Oracle
	{[16]byte{10}, 8, Private},
	{[16]byte{172, 16}, 12, Private},
	{[16]byte{192, 168}, 16, Private},
	{[16]byte{100, 64}, 10, Private}, // carrier-grade NAT, RFC 6598
	{[16]byte{198, 18}, 15, Private}, // benchmarking, RFC 2544
	{[16]byte{192, 0, 0}, 24, Private},
	{[16]byte{192, 0, 2}, 24, Private},    // TEST-NET-1 to 3, RFC 5737
	{[16]byte{198, 51, 100}, 24, Private}, //
	{[16]byte{203, 0, 113}, 24, Private},  //
	{[16]byte{192, 88, 99}, 24, Reserved}, // 6to4 relays, RFC 7526
	{[16]byte{224}, 4, Multicast},
	{[16]byte{255, 255, 255, 255}, 32, Broadcast},
	{[16]byte{240}, 4, Reserved},
}

// blocks6 are those of IPv6 (RFC 4291, section 2.4, and IANA's registry). Only
// 2000::/3 is assigned as global unicast; what is not of it and not here is
// reserved.
var blocks6 = [...]block{
	{[16]byte{}, 128, Unspecified},
	{[16]byte{15: 1}, 128, Loopback},
	{[16]byte{0xfd, 0x00, 0x0e, 0xc2}, 32, Metadata},                      // AWS, fd00:ec2::254 and others
	{[16]byte{0xfd, 0x20, 0x00, 0xce, 15: 0x54, 14: 0x02}, 128, Metadata}, // Google
	{[16]byte{0xfd, 0x00, 0x00, 0xc1}, 32, Metadata},                      // Oracle
	{[16]byte{0xfd, 0x00, 0x00, 0x42, 15: 0x42}, 128, Metadata},           // Scaleway
	{[16]byte{0xfc}, 7, Private},
	{[16]byte{0xfe, 0x80}, 10, LinkLocal},
	{[16]byte{0xfe, 0xc0}, 10, Private}, // site-local, RFC 3879
	{[16]byte{0xff}, 8, Multicast},
	{[16]byte{}, 96, Tunnel},                                   // IPv4-compatible, RFC 4291, section 2.5.5.1
	{[16]byte{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, Tunnel}, // local NAT64, RFC 8215
	{[16]byte{0x20, 0x01, 0x00, 0x00}, 32, Tunnel},             // Teredo, RFC 4380
	{[16]byte{0x20, 0x01, 0x00}, 23, Reserved},                 // protocols, ORCHID among them
	{[16]byte{0x20, 0x01, 0x0d, 0xb8}, 32, Private},            // documentation, RFC 3849
	{[16]byte{0x3f, 0xff, 0x00}, 20, Private},                  // documentation, RFC 9637
	{[16]byte{0x20}, 3, Public},
}

// Classify tells the class of an address. One that has another address inside
// has the class of that, if it is a worse one.
func Classify(a netip.Addr) Class {
	if !a.IsValid() || a.Zone() != "" {
		return Invalid
	}
	if a.Is4() {
		b := a.As4()
		return find(blocks4[:], b[:], Public)
	}
	b := a.As16()
	inner, nested := Embedded(a)
	if nested && (isMapped(b) || isNAT64(b)) {
		return Classify(inner)
	}
	c := find(blocks6[:], b[:], Reserved)
	if nested {
		c = min(c, Classify(inner))
	}
	return c
}

func find(blocks []block, addr []byte, other Class) Class {
	for i := range blocks {
		if blocks[i].contains(addr) {
			return blocks[i].class
		}
	}
	return other
}

func (b *block) contains(addr []byte) bool {
	n := int(b.bits / 8)
	for i := range n {
		if addr[i] != b.prefix[i] {
			return false
		}
	}
	rest := b.bits % 8
	return rest == 0 || (addr[n]^b.prefix[n])>>(8-rest) == 0
}

// Embedded gives the IPv4 address to which packets for an IPv6 address go in the
// end: IPv4-mapped, NAT64 (RFC 6052), 6to4 (RFC 3056) and ISATAP (RFC 5214).
func Embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	at := -1
	switch {
	case isMapped(b), isNAT64(b):
		at = 12
	case b[0] == 0x20 && b[1] == 0x02:
		at = 2
	case b[8]&^0x03 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
		at = 12
	}
	if at < 0 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[at : at+4])), true
}

func isMapped(b [16]byte) bool {
	return [12]byte(b[:]) == [12]byte{10: 0xff, 11: 0xff}
}

func isNAT64(b [16]byte) bool {
	return [12]byte(b[:]) == [12]byte{0x00, 0x64, 0xff, 0x9b}
}
