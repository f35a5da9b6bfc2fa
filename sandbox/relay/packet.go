package relay

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is an IP packet that the sandbox has sent, and is believed in nothing. What
// parse lets through has neither options, extension headers nor fragments: a relay
// that looked at one packet's ports and passed on another's would be fooled.
type packet struct {
	b        []byte // from the IP header on, as long as the header says
	v6       bool
	proto    byte
	src, dst netip.Addr
	// l4 is the transport header and what follows.
	l4 []byte
}

const (
	header4 = 20 // without options (RFC 791)
	header6 = 40 // RFC 8200
	headTCP = 20 // RFC 9293
	headUDP = 8  // RFC 768
	headPCM = 8  // an echo request (RFC 792, RFC 4443)
)

// parse takes a packet apart. ok is false for what no program's traffic consists of.
func parse(b []byte) (p packet, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		if len(b) < header4 || b[0] != 0x45 {
			return p, false
		}
		total := int(binary.BigEndian.Uint16(b[2:]))
		fragment := binary.BigEndian.Uint16(b[6:]) & 0x3fff // more fragments, offset
		if total < header4 || total > len(b) || fragment != 0 {
			return p, false
		}
		p = packet{b: b[:total], proto: b[9], src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), l4: b[header4:total]}
	case 6:
		if len(b) < header6 {
			return p, false
		}
		total := header6 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) || total == header6 {
			return p, false
		}
		p = packet{b: b[:total], v6: true, proto: b[6], src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), l4: b[header6:total]}
		if p.src.Is4In6() || p.dst.Is4In6() {
			return p, false
		}
	default:
		return p, false
	}
	switch p.proto {
	case unix.IPPROTO_TCP:
		if len(p.l4) < headTCP {
			return p, false
		}
		n := int(p.l4[12]>>4) * 4
		return p, n >= headTCP && n <= len(p.l4)
	case unix.IPPROTO_UDP:
		if len(p.l4) < headUDP {
			return p, false
		}
		n := int(binary.BigEndian.Uint16(p.l4[4:]))
		if n < headUDP || n > len(p.l4) {
			return p, false
		}
		p.l4 = p.l4[:n]
		return p, true
	case unix.IPPROTO_ICMP:
		return p, !p.v6 && len(p.l4) >= headPCM
	case unix.IPPROTO_ICMPV6:
		return p, p.v6 && len(p.l4) >= headPCM
	}
	return p, false
}

func (p *packet) sport() uint16 { return binary.BigEndian.Uint16(p.l4) }
func (p *packet) dport() uint16 { return binary.BigEndian.Uint16(p.l4[2:]) }

// Flags of TCP (RFC 9293, 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
)

func (p *packet) flags() byte { return p.l4[13] }

// readdress gives the packet other ends. The checksum of the transport is left to the
// kernel, whom virtio tells so; see wire.send.
func (p *packet) readdress(src, dst netip.AddrPort) {
	binary.BigEndian.PutUint16(p.l4, src.Port())
	binary.BigEndian.PutUint16(p.l4[2:], dst.Port())
	if p.v6 {
		s, d := src.Addr().As16(), dst.Addr().As16()
		copy(p.b[8:], s[:])
		copy(p.b[24:], d[:])
		return
	}
	s, d := src.Addr().As4(), dst.Addr().As4()
	copy(p.b[12:], s[:])
	copy(p.b[16:], d[:])
	p.b[10], p.b[11] = 0, 0
	binary.BigEndian.PutUint16(p.b[10:], ^fold(sum(p.b[:header4], 0)))
}

// pseudo is the sum over the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1).
func (p *packet) pseudo() uint32 {
	n := uint32(len(p.l4)) + uint32(p.proto)
	if p.v6 {
		return sum(p.b[8:header6], n)
	}
	return sum(p.b[12:header4], n)
}

// sum adds up 16-bit words in ones' complement (RFC 1071).
func sum(b []byte, s uint32) uint32 {
	for len(b) >= 2 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
		if s > 0xffff0000 {
			s = s>>16 + s&0xffff
		}
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// build makes a packet of a protocol, with room for a transport of n bytes, in b.
func build(b []byte, proto byte, src, dst netip.Addr, n int) packet {
	p := packet{proto: proto, src: src, dst: dst, v6: src.Is6()}
	if p.v6 {
		p.b = b[:header6+n]
		clear(p.b[:header6])
		p.b[0] = 6 << 4
		binary.BigEndian.PutUint16(p.b[4:], uint16(n))
		p.b[6], p.b[7] = proto, 64
		p.l4 = p.b[header6:]
		s, d := src.As16(), dst.As16()
		copy(p.b[8:], s[:])
		copy(p.b[24:], d[:])
		return p
	}
	p.b = b[:header4+n]
	clear(p.b[:header4])
	p.b[0] = 0x45
	binary.BigEndian.PutUint16(p.b[2:], uint16(header4+n))
	p.b[6] = 0x40 // do not fragment
	p.b[8], p.b[9] = 64, proto
	s, d := src.As4(), dst.As4()
	copy(p.b[12:], s[:])
	copy(p.b[16:], d[:])
	binary.BigEndian.PutUint16(p.b[10:], ^fold(sum(p.b[:header4], 0)))
	p.l4 = p.b[header4:]
	return p
}
