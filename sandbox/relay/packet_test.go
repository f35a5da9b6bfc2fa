package relay

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// segment makes a packet of TCP.
func segment(src, dst netip.AddrPort, flags byte, data string) []byte {
	p := build(make([]byte, 2048), unix.IPPROTO_TCP, src.Addr(), dst.Addr(), headTCP+len(data))
	clear(p.l4[:headTCP])
	binary.BigEndian.PutUint16(p.l4, src.Port())
	binary.BigEndian.PutUint16(p.l4[2:], dst.Port())
	binary.BigEndian.PutUint32(p.l4[4:], 1000)
	p.l4[12], p.l4[13] = headTCP/4<<4, flags
	copy(p.l4[headTCP:], data)
	return p.b
}

// A packet that a real system has sent (RFC 1071's checksums come out right), and its
// parts.
func TestParseReal(t *testing.T) {
	b, err := hex.DecodeString("4500003c1c4640004006b1e6ac100a63ac100a0c" + "c3a80050000003e80000000050022000" + "00000000" + "0102030405060708")
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(b[:20], 0)))
	p, ok := parse(b)
	if !ok || p.src != netip.MustParseAddr("172.16.10.99") || p.dst != netip.MustParseAddr("172.16.10.12") || p.sport() != 50088 || p.dport() != 80 || p.flags() != tcpSYN {
		t.Fatalf("parse: %v, %+v", ok, p)
	}
	if fold(sum(b[:20], 0)) != 0xffff {
		t.Error("the checksum of the header is not right")
	}
	p.readdress(netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("198.51.100.7:2"))
	q, ok := parse(p.b)
	if !ok || q.src.String() != "192.0.2.1" || q.dst.String() != "198.51.100.7" || q.sport() != 1 || q.dport() != 2 {
		t.Errorf("after readdress: %v, %+v", ok, q)
	}
	if fold(sum(q.b[:20], 0)) != 0xffff {
		t.Error("the checksum of the header is not right after readdress")
	}
}

// What could be taken for another packet than it is, is no packet.
func TestParseRefuses(t *testing.T) {
	a, b := netip.MustParseAddrPort("198.18.0.2:1000"), netip.MustParseAddrPort("192.0.2.1:80")
	a6, b6 := netip.MustParseAddrPort("[fd73:6278::2]:1000"), netip.MustParseAddrPort("[2001:db8::1]:80")
	for _, tt := range []struct {
		name string
		make func() []byte
	}{
		{"empty", func() []byte { return nil }},
		{"one byte", func() []byte { return []byte{0x45} }},
		{"another version", func() []byte { b := segment(a, b, tcpSYN, ""); b[0] = 0x55; return b }},
		{"options", func() []byte { b := segment(a, b, tcpSYN, ""); b[0] = 0x46; return b }},
		{"a header shorter than can be", func() []byte { b := segment(a, b, tcpSYN, ""); b[0] = 0x44; return b }},
		{"more fragments", func() []byte { b := segment(a, b, tcpSYN, ""); b[6] = 0x20; return b }},
		{"a later fragment", func() []byte { b := segment(a, b, tcpSYN, ""); b[7] = 1; return b }},
		{"longer than it is", func() []byte { b := segment(a, b, tcpSYN, ""); b[3]++; return b }},
		{"shorter than its headers", func() []byte { b := segment(a, b, tcpSYN, ""); b[3] = 30; return b }},
		{"a total below the header", func() []byte { b := segment(a, b, tcpSYN, ""); b[3] = 10; return b }},
		{"an offset below the header", func() []byte { b := segment(a, b, tcpSYN, ""); b[20+12] = 4 << 4; return b }},
		{"an offset beyond the end", func() []byte { b := segment(a, b, tcpSYN, ""); b[20+12] = 15 << 4; return b }},
		{"SCTP", func() []byte { b := segment(a, b, tcpSYN, ""); b[9] = 132; return b }},
		{"IP in IP", func() []byte { b := segment(a, b, tcpSYN, ""); b[9] = 4; return b }},
		{"ICMPv6 in IPv4", func() []byte { b := segment(a, b, tcpSYN, ""); b[9] = 58; return b }},
		{"IPv6: short", func() []byte { return segment(a6, b6, tcpSYN, "")[:39] }},
		{"IPv6: longer than it is", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[5]++; return b }},
		{"IPv6: a jumbogram", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[4], b[5] = 0, 0; return b }},
		{"IPv6: a hop-by-hop header", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[6] = 0; return b }},
		{"IPv6: a fragment header", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[6] = 44; return b }},
		{"IPv6: a routing header", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[6] = 43; return b }},
		{"IPv6: ICMP of IPv4", func() []byte { b := segment(a6, b6, tcpSYN, ""); b[6] = 1; return b }},
		{"IPv6: to an address of IPv4", func() []byte {
			b := segment(a6, b6, tcpSYN, "")
			copy(b[24:], netip.MustParseAddr("::ffff:127.0.0.1").AsSlice())
			return b
		}},
		{"UDP: longer than it is", func() []byte {
			p := build(make([]byte, 100), unix.IPPROTO_UDP, a.Addr(), b.Addr(), headUDP)
			udpHeader(p.l4, 1, 2, headUDP+1)
			return p.b
		}},
		{"UDP: shorter than its header", func() []byte {
			p := build(make([]byte, 100), unix.IPPROTO_UDP, a.Addr(), b.Addr(), headUDP)
			udpHeader(p.l4, 1, 2, headUDP-1)
			return p.b
		}},
	} {
		if p, ok := parse(tt.make()); ok {
			t.Errorf("%s: is taken for %+v", tt.name, p)
		}
	}
}

// No bytes make parse, or what is done with its result, go beyond them.
func FuzzPacket(f *testing.F) {
	f.Add(segment(netip.MustParseAddrPort("198.18.0.2:1000"), netip.MustParseAddrPort("192.0.2.1:80"), tcpSYN, "data"))
	f.Add(segment(netip.MustParseAddrPort("[fd73:6278::2]:1000"), netip.MustParseAddrPort("[2001:db8::1]:80"), tcpACK, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parse(bytes.Clone(b))
		if !ok {
			return
		}
		if len(p.b) > len(b) || len(p.l4) > len(p.b) {
			t.Fatalf("a packet of %d bytes has %d, %d of them the transport's", len(b), len(p.b), len(p.l4))
		}
		if p.proto == unix.IPPROTO_TCP || p.proto == unix.IPPROTO_UDP {
			src, dst := netip.AddrPortFrom(p.dst, 7), netip.AddrPortFrom(p.src, 8)
			p.readdress(src, dst)
			q, ok := parse(p.b)
			if !ok || q.src != src.Addr() || q.dst != dst.Addr() || q.sport() != 7 || q.dport() != 8 {
				t.Fatalf("after readdress: %v, %+v", ok, q)
			}
		}
	})
}

func TestSum(t *testing.T) {
	for _, tt := range []struct {
		b    string
		want uint16
	}{
		{"", 0},
		{"\x00\x01\xf2\x03\xf4\xf5\xf6\xf7", 0xddf2}, // RFC 1071, section 3
		{"\xff", 0xff00},
		{strings.Repeat("\xff\xff", 1<<16), 0xffff},
	} {
		if got := fold(sum([]byte(tt.b), 0)); got != tt.want {
			t.Errorf("the sum of %d bytes is %#x, want %#x", len(tt.b), got, tt.want)
		}
	}
}

func BenchmarkReaddress(b *testing.B) {
	p, _ := parse(segment(netip.MustParseAddrPort("198.18.0.2:1000"), netip.MustParseAddrPort("192.0.2.1:80"), tcpACK, "data"))
	src, dst := netip.AddrPortFrom(plan.RelayAddr, 1), netip.MustParseAddrPort("240.1.2.3:4")
	for b.Loop() {
		p.readdress(src, dst)
	}
}
