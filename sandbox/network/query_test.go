package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// TestQueryForms goes through queries that are wrong, or say how long an answer may
// be.
func TestQueryForms(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("many.example.com A 8.8.8.%d", i+10))
	}
	for i := range 40 {
		lines = append(lines, fmt.Sprintf("some.example.com A 8.8.8.%d", i+10))
	}
	u.set(lines...)
	s, _ := nameServer(t, u, policy.Internet, "")
	question := dnsmessage.Question{Name: dnsmessage.MustNewName("localhost."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	of := func(name string) dnsmessage.Question {
		return dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	}
	opt := func(size int, version uint32) dnsmessage.Resource {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(size, 0, false); err != nil {
			t.Fatal(err)
		}
		h.TTL |= version << 16
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: make([]byte, 8)}}}}
	}
	other := record("localhost", 1, &dnsmessage.AResource{})
	tests := []struct {
		name     string
		change   func(m *dnsmessage.Message)
		udp, tcp string
	}{
		{"plain", func(m *dnsmessage.Message) {}, "Success 127.0.0.1", "Success 127.0.0.1"},
		{"an answer", func(m *dnsmessage.Message) { m.Response = true }, "none", "none"},
		{"update", func(m *dnsmessage.Message) { m.OpCode = 5 }, "NotImplemented", "NotImplemented"},
		{"cut off", func(m *dnsmessage.Message) { m.Truncated = true }, "NotImplemented", "NotImplemented"},
		{"no question", func(m *dnsmessage.Message) { m.Questions = nil }, "FormatError", "FormatError"},
		{"two questions", func(m *dnsmessage.Message) { m.Questions = append(m.Questions, question) }, "FormatError", "FormatError"},
		{"chaos", func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }, "Refused", "Refused"},
		{"any class", func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassANY }, "Refused", "Refused"},
		{"any", func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeALL }, "Refused", "Refused"},
		{"OPT as a question", func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeOPT }, "Refused", "Refused"},
		{"with an answer", func(m *dnsmessage.Message) { m.Answers = []dnsmessage.Resource{other} }, "FormatError", "FormatError"},
		{"with an authority", func(m *dnsmessage.Message) { m.Authorities = []dnsmessage.Resource{other} }, "FormatError", "FormatError"},
		{"with an additional", func(m *dnsmessage.Message) { m.Additionals = []dnsmessage.Resource{other} }, "Success 127.0.0.1", "Success 127.0.0.1"},
		{"with many", func(m *dnsmessage.Message) {
			m.Additionals = []dnsmessage.Resource{other, other, other, other, other}
		}, "FormatError", "FormatError"},
		{"EDNS", func(m *dnsmessage.Message) { m.Additionals = []dnsmessage.Resource{opt(4096, 0)} }, "Success 127.0.0.1", "Success 127.0.0.1"},
		{"EDNS twice", func(m *dnsmessage.Message) { m.Additionals = []dnsmessage.Resource{opt(4096, 0), opt(4096, 0)} }, "FormatError", "FormatError"},
		{"EDNS of a name", func(m *dnsmessage.Message) {
			m.Additionals = []dnsmessage.Resource{opt(4096, 0)}
			m.Additionals[0].Header.Name = question.Name
		}, "FormatError", "FormatError"},
		{"EDNS 1", func(m *dnsmessage.Message) { m.Additionals = []dnsmessage.Resource{opt(4096, 1)} }, "Success", "Success"}, // BADVERS is in OPT
		{"40, plain", func(m *dnsmessage.Message) { m.Questions[0] = of("some.example.com") }, "Success truncated", "40"},
		{"40, EDNS", func(m *dnsmessage.Message) {
			m.Questions[0], m.Additionals = of("some.example.com"), []dnsmessage.Resource{opt(1232, 0)}
		}, "40", "40"},
		{"40, small EDNS", func(m *dnsmessage.Message) {
			m.Questions[0], m.Additionals = of("some.example.com"), []dnsmessage.Resource{opt(0, 0)}
		}, "Success truncated", "40"},
		{"100, EDNS", func(m *dnsmessage.Message) {
			m.Questions[0], m.Additionals = of("many.example.com"), []dnsmessage.Resource{opt(65535, 0)}
		}, "Success truncated", "100"},
	}
	for _, test := range tests {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 9, RecursionDesired: true}, Questions: []dnsmessage.Question{question}}
		test.change(&m)
		query, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for tcp, want := range map[bool]string{false: test.udp, true: test.tcp} {
			b := s.Answer(query, tcp)
			got := show(t, b, m)
			if n := strings.Count(got, "8.8.8."); n > 0 {
				got = fmt.Sprint(n)
			}
			if got != want || !tcp && len(b) > maxUDP {
				t.Errorf("%s, tcp %v: %q of %d bytes, want %q", test.name, tcp, got, len(b), want)
			}
		}
	}
	for _, b := range [][]byte{nil, {1}, make([]byte, 11)} {
		if got := s.Answer(b, false); got != nil {
			t.Errorf("%x is answered by %x", b, got)
		}
	}
	if got := s.Answer(make([]byte, 12), false); len(got) != 12 || got[3]&0xf != byte(dnsmessage.RCodeFormatError) {
		t.Errorf("a query of nothing is answered by %x", got)
	}
}

// TestBadVersion holds that the upper bits of BADVERS are in the answer's OPT.
func TestBadVersion(t *testing.T) {
	s := &NameServer{}
	b := s.Answer([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 'x', 0, 0, 1, 0, 1, 0, 0, 41, 16, 0, 0, 7, 0, 0, 0, 0}, false)
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Additionals) != 1 || m.Additionals[0].Header.ExtendedRCode(m.RCode) != badVersion {
		t.Errorf("%x: %+v, %v", b, m, err)
	}
}

func TestReverseAddr(t *testing.T) {
	for _, s := range []string{"0.0.0.0", "1.2.3.4", "255.255.255.255"} {
		a := netip.MustParseAddr(s)
		b := a.As4()
		if got, ok := reverseAddr(fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0])); !ok || got != a {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"::", "::1", "2001:db8::1234:5678", "fedc:ba98:7654:3210::"} {
		a := netip.MustParseAddr(s)
		name := "ip6.arpa"
		for _, b := range a.As16() {
			name = fmt.Sprintf("%x.%x.", b&0xf, b>>4) + name
		}
		if got, ok := reverseAddr(name); !ok || got != a {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "in-addr.arpa", ".in-addr.arpa", "1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "01.2.3.4.in-addr.arpa", "256.2.3.4.in-addr.arpa", "a.2.3.4.in-addr.arpa",
		"1.ip6.arpa", strings.Repeat("1.", 31) + "g.ip6.arpa", strings.Repeat("1", 63) + ".ip6.arpa", strings.Repeat("1.", 31) + "..ip6.arpa"} {
		if got, ok := reverseAddr(s); ok {
			t.Errorf("%q is %v", s, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, m := range []dnsmessage.Message{
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("git.corp.internal."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("1.1.18.198.in-addr.arpa."), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("x.localhost."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("registry.example.com."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("_http._tcp.git.corp.internal."), Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET}}},
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(append(b, 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0), true)
	}
	u := startUpstream(f, "127.0.0.1", 0) // asked for other types than addresses
	s, n := nameServer(f, u, policy.None, "git.corp.internal *.example.com")
	s.Proxied = func(name string) bool { return strings.HasSuffix(name, ".example.com") }
	f.Fuzz(func(t *testing.T, query []byte, tcp bool) {
		b := s.Answer(query, tcp)
		n.take()
		// By what is asked of others nothing is told that the program has chosen freely.
		for _, asked := range strings.Split(u.seen(), ", ") {
			name, kind, _ := strings.Cut(strings.TrimSuffix(asked, " tcp"), " ")
			if label, ok := strings.CutSuffix(name, ".git.corp.internal"); asked != "" && name != "git.corp.internal" && (!ok || !isService(label) || kind != "SRV") {
				t.Errorf("%x: the name server was asked %q", query, asked)
			}
		}
		if b == nil {
			if len(query) >= 12 && query[2]&0x80 == 0 {
				t.Errorf("%x is not answered", query)
			}
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil || !m.Response || len(b) > maxUDP && !tcp {
			t.Errorf("%x is answered by %x: %v", query, b, err)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	u := startUpstream(b, "127.0.0.1", 0)
	u.set(world...)
	s, _ := nameServer(b, u, policy.None, "registry.example.com git.corp.internal")
	for name, n := range map[string]string{"localhost": "localhost.", "fake": "git.corp.internal.", "refused": "evil.example."} {
		m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(n), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		query, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s.Answer(query, false) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
