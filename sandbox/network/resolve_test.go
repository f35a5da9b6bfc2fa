package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestParseServers(t *testing.T) {
	tests := []struct {
		in, addrs, search string
		timeout           time.Duration
		attempts          int
		tcp               bool
	}{
		{"", "127.0.0.1", "", 5 * time.Second, 2, false},
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.4\n", "192.0.2.1 2001:db8::1 fe80::1%eth0", "", 5 * time.Second, 2, false},
		{"# nameserver 192.0.2.1\n; nameserver 192.0.2.1\nnameserver\nnameserver example.com\n\tnameserver  192.0.2.2 # comment\nsearch x\n", "192.0.2.2", "x", 5 * time.Second, 2, false},
		{"domain a.example.com\nsearch B.Example.com. c d e f g h .. i\n", "127.0.0.1", "b.example.com c d e f g", 5 * time.Second, 2, false},
		{"options timeout:1 attempts:3 rotate use-vc\nnameserver 192.0.2.1", "192.0.2.1", "", time.Second, 3, true},
		{"options timeout:1000 attempts:1000\n", "127.0.0.1", "", 30 * time.Second, 5, false},
		{"options timeout:0 attempts:-1 timeout: timeout:x\n\x00\xff\n", "127.0.0.1", "", 5 * time.Second, 2, false},
	}
	for _, test := range tests {
		s := parseServers([]byte(test.in))
		var addrs []string
		for _, a := range s.addrs {
			addrs = append(addrs, a.String())
		}
		if got := strings.Join(s.search, " "); got != test.search {
			t.Errorf("%q: searches %q, want %q", test.in, got, test.search)
		}
		if got := strings.Join(addrs, " "); got != test.addrs || s.timeout != test.timeout || s.attempts != test.attempts || s.tcp != test.tcp {
			t.Errorf("%q: %q %+v", test.in, got, s)
		}
	}
}

func TestParseHosts(t *testing.T) {
	hosts := parseHosts([]byte("127.0.0.1 localhost ads.example.com\n::1 localhost\n0.0.0.0 bad.example.com\n" +
		"10.0.0.1\tGit.Example.com git # comment\nfd00::1 git\n\n#10.0.0.2 x\n10.0.0.3 #y\nnonsense z\nfe80::1%eth0 link\n::ffff:10.0.0.4 mapped"))
	want := "map[ads.example.com:[127.0.0.1] bad.example.com:[0.0.0.0] git:[10.0.0.1 fd00::1] git.example.com:[10.0.0.1] localhost:[127.0.0.1 ::1] mapped:[10.0.0.4]]"
	if got := fmt.Sprint(hosts); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func addrList(addrs []netip.Addr) string { return strings.Trim(fmt.Sprint(addrs), "[]") }

// TestResolve goes through what a name can be.
func TestResolve(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.example.com A 8.8.8.8", "a.example.com A 8.8.4.4", "a.example.com AAAA 2600::1", "six.example.com AAAA 2600::2",
		"c.example.com CNAME d.example.com", "d.example.com CNAME a.example.com", "loop.example.com CNAME loop.example.com", "txt.example.com TXT x")
	r := resolver(t, "10.0.0.1 git.example.com printer.local\n0.0.0.0 blocked.example.com\n", u)
	write(t, r.conf.path, "nameserver 127.0.0.1\noptions timeout:1\nsearch none.example.com corp.example.com\n")
	u.set("short.corp.example.com A 8.8.8.7", "blocked.example.com A 8.8.8.8")
	tests := []struct{ name, four, six, fault string }{
		{"a.example.com", "8.8.8.8 8.8.4.4", "8.8.8.8 8.8.4.4 2600::1", ""},
		{"c.example.com", "8.8.8.8 8.8.4.4", "8.8.8.8 8.8.4.4 2600::1", ""},
		{"six.example.com", "", "2600::2", "no addresses"},
		{"git.example.com", "10.0.0.1", "10.0.0.1", ""},
		{"printer.local", "10.0.0.1", "10.0.0.1", ""},
		{"loop.example.com", "", "", "no addresses"},
		{"txt.example.com", "", "", "no addresses"},
		{"none.example.com", "", "", "no such name"},
		{"other.local", "", "", "no such name"},
		{"x.onion", "", "", "no such name"},
		{"localhost", "127.0.0.1 ::1", "127.0.0.1 ::1", ""},
		{"x.localhost", "127.0.0.1 ::1", "127.0.0.1 ::1", ""},
		{"blocked.example.com", "0.0.0.0", "0.0.0.0", ""},
		{"short", "8.8.8.7", "8.8.8.7", ""},
		{"shorter", "", "", "no such name"},
		{"", "", "", "no such name"},
		{strings.Repeat("a", 64) + ".example.com", "", "", "does not answer"},
		{strings.Repeat("a.", 200), "", "", "no such name"},
	}
	for _, six := range []bool{false, true} {
		r.IPv6, r.kept = six, map[string]keptAddrs{}
		for _, test := range tests {
			want := test.four
			if six {
				want = test.six
			}
			addrs, err := r.Resolve(test.name)
			var e *ResolveError
			if addrList(addrs) != want || (err != nil) != (want == "") || err != nil && (!errors.As(err, &e) || !strings.Contains(err.Error(), test.fault)) {
				t.Errorf("%v %q: %v, %v; want %q, %q", six, test.name, addrs, err, want, test.fault)
			}
		}
	}
	if got := u.seen(); strings.Contains(got, "local") || strings.Contains(got, "onion") || strings.Contains(got, "git") || strings.Contains(got, "blocked") {
		t.Errorf("the name server was asked %s", got)
	}
}

// TestResolveKeeps holds that a name that was just resolved is not asked for again,
// and that the caller cannot change what is kept.
func TestResolveKeeps(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.example.com A 8.8.8.8")
	r := resolver(t, "", u)
	for range 3 {
		addrs, err := r.Resolve("a.example.com")
		if addrList(addrs) != "8.8.8.8" || err != nil {
			t.Fatal(addrs, err)
		}
		addrs[0] = netip.Addr{}
	}
	if got := u.seen(); got != "a.example.com A" {
		t.Errorf("asked: %s", got)
	}
	for i := range 3 * maxKept {
		r.remember(fmt.Sprint(i), []netip.Addr{{}}, nil)
	}
	if len(r.kept) > maxKept {
		t.Errorf("%d names are kept", len(r.kept))
	}
}

// TestResolverConfig holds that a changed configuration is read.
func TestResolverConfig(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	v := startUpstream(t, "127.0.0.2", u.port())
	u.set("a.example.com A 8.8.8.1")
	v.set("a.example.com A 8.8.8.2")
	r := resolver(t, "", u)
	look := func(want string) {
		t.Helper()
		r.kept = map[string]keptAddrs{}
		if addrs, err := r.Resolve("a.example.com"); addrList(addrs) != want || err != nil {
			t.Errorf("%v, %v; want %s", addrs, err, want)
		}
	}
	look("8.8.8.1")
	write(t, r.conf.path, "nameserver 127.0.0.2\noptions timeout:1\n")
	look("8.8.8.2")
	write(t, r.hostsFile.path, "8.8.8.3 a.example.com")
	look("8.8.8.3")
	os.Remove(r.hostsFile.path)
	look("8.8.8.2")
	os.Remove(r.conf.path) // then the host itself is asked
	look("8.8.8.1")
	write(t, r.conf.path, "nameserver 127.0.0.2\noptions timeout:1\n")
	look("8.8.8.2")
}

// TestResolverServers goes through servers that fail.
func TestResolverServers(t *testing.T) {
	t.Parallel() // it waits
	u := startUpstream(t, "127.0.0.1", 0)
	v := startUpstream(t, "127.0.0.2", u.port())
	v.set("a.example.com A 8.8.8.8")
	r := resolver(t, "", u, v)
	code := func(c dnsmessage.RCode) func(query []byte, tcp bool) [][]byte {
		return func(query []byte, tcp bool) [][]byte {
			query[2] |= 0x80
			query[3] = byte(c)
			return [][]byte{query}
		}
	}
	for name, reply := range map[string]func([]byte, bool) [][]byte{
		"silent":   func([]byte, bool) [][]byte { return nil },
		"SERVFAIL": code(dnsmessage.RCodeServerFailure),
		"REFUSED":  code(dnsmessage.RCodeRefused),
		"FORMERR":  code(dnsmessage.RCodeFormatError),
		"garbage":  func([]byte, bool) [][]byte { return [][]byte{{}, {1}, make([]byte, 600)} },
		"echo":     func(query []byte, tcp bool) [][]byte { return [][]byte{query} },
	} {
		u.instead(reply)
		r.kept = map[string]keptAddrs{}
		if addrs, err := r.Resolve("a.example.com"); addrList(addrs) != "8.8.8.8" || err != nil {
			t.Errorf("%s: %v, %v", name, addrs, err)
		}
	}
	v.instead(code(dnsmessage.RCodeRefused))
	var e *ResolveError
	r.kept = map[string]keptAddrs{}
	if _, err := r.Resolve("a.example.com"); !errors.As(err, &e) || e.RCode != dnsmessage.RCodeRefused || !strings.Contains(err.Error(), "answers Refused") {
		t.Errorf("refused by all: %v", err)
	}
	// Nobody listens there.
	write(t, r.conf.path, "nameserver 127.0.0.3\noptions attempts:1\n")
	begin := time.Now()
	if _, err := r.Resolve("a.example.com"); err == nil || !strings.Contains(err.Error(), "the name server 127.0.0.3 does not answer") || time.Since(begin) > 3*time.Second {
		t.Errorf("nobody: %v after %v", err, time.Since(begin))
	}
}

// TestResolverForged holds that only the reply to the very query counts.
func TestResolverForged(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	r := resolver(t, "", u)
	forge := func(query []byte, change func(m *dnsmessage.Message)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(query); err != nil {
			t.Fatal(err)
		}
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{record("a.example.com", 60, &dnsmessage.AResource{A: [4]byte{6, 6, 6, 6}})}
		change(&m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	u.instead(func(query []byte, tcp bool) [][]byte {
		return [][]byte{
			{},
			forge(query, func(m *dnsmessage.Message) { m.ID++ }),
			forge(query, func(m *dnsmessage.Message) { m.Response = false }),
			forge(query, func(m *dnsmessage.Message) { m.OpCode = 5 }),
			forge(query, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.example.com.") }),
			forge(query, func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }),
			forge(query, func(m *dnsmessage.Message) { m.Questions[0].Class = 3 }),
			forge(query, func(m *dnsmessage.Message) { m.Questions = nil }),
			forge(query, func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }),
			forge(query, func(m *dnsmessage.Message) {
				m.Answers = []dnsmessage.Resource{
					record("a.example.com", 1<<31, &dnsmessage.AResource{A: [4]byte{8, 8, 8, 8}}),
					record("other.example.com", 60, &dnsmessage.AResource{A: [4]byte{7, 7, 7, 7}}),
					record("A.Example.COM", 60, &dnsmessage.AAAAResource{}),
				}
			}),
		}
	})
	reply, err := r.Query("a.example.com", dnsmessage.TypeA)
	if got := addrList(addresses(reply.Answers)); got != "8.8.8.8" || err != nil || reply.Answers[0].Header.TTL != maxTTL {
		t.Errorf("%s, %v, %+v", got, err, reply)
	}
}

// TestResolverTCP holds that a reply that is cut off is asked for again.
func TestResolverTCP(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("a.example.com A 8.8.%d.%d", i/256, i%256))
	}
	u.set(lines...)
	r := resolver(t, "", u)
	addrs, err := r.Resolve("a.example.com")
	if len(addrs) != 400 || err != nil {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
	if got := u.seen(); got != "a.example.com A, a.example.com A tcp" {
		t.Errorf("asked: %s", got)
	}
	write(t, r.conf.path, "nameserver 127.0.0.1\noptions use-vc timeout:1 attempts:1")
	r.kept = map[string]keptAddrs{}
	if addrs, err = r.Resolve("a.example.com"); len(addrs) != 400 || err != nil || u.seen() != "a.example.com A tcp" {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
	// A connection that is there before anybody waits for it is not waited for.
	for range 200 {
		if reply, err := r.Query("a.example.com", dnsmessage.TypeA); len(reply.Answers) != 400 || err != nil {
			t.Fatalf("%d answers, %v", len(reply.Answers), err)
		}
	}
	// More than any name has.
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("a.example.com A 8.9.%d.%d", i/256, i%256))
	}
	u.set(lines...)
	r.kept = map[string]keptAddrs{}
	if addrs, err = r.Resolve("a.example.com"); err == nil || !strings.Contains(err.Error(), "too many records") {
		t.Errorf("%d addresses, %v", len(addrs), err)
	}
	// A TCP server that ends, or says something else.
	for _, reply := range [][]byte{nil, {}, {0, 1, 2}, make([]byte, 100)} {
		u.instead(func([]byte, bool) [][]byte {
			if reply == nil {
				return nil
			}
			return [][]byte{reply}
		})
		if _, err := r.Query("a.example.com", dnsmessage.TypeA); err == nil {
			t.Errorf("%x is taken for a reply", reply)
		}
	}
}

// TestResolverPlain holds that a server that does not know EDNS is asked without.
func TestResolverPlain(t *testing.T) {
	for _, empty := range []bool{false, true} {
		u := startUpstream(t, "127.0.0.1", 0)
		u.instead(func(query []byte, tcp bool) [][]byte {
			var m dnsmessage.Message
			if err := m.Unpack(query); err != nil {
				t.Error(err)
			}
			m.Response = true
			if len(m.Additionals) > 0 {
				m.RCode, m.Additionals = dnsmessage.RCodeFormatError, nil
				if empty {
					m.Questions = nil
				}
			} else {
				m.Answers = []dnsmessage.Resource{record("a.example.com", 60, &dnsmessage.AResource{A: [4]byte{8, 8, 8, 8}})}
			}
			b, _ := m.Pack()
			return [][]byte{b}
		})
		if addrs, err := resolver(t, "", u).Resolve("a.example.com"); addrList(addrs) != "8.8.8.8" || err != nil {
			t.Errorf("%v, %v", addrs, err)
		}
	}
}

// TestResolverBusy holds that queries wait for their turn, and not for ever.
func TestResolverBusy(t *testing.T) {
	t.Parallel() // it waits
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.example.com A 8.8.8.8")
	r := resolver(t, "", u)
	var wg sync.WaitGroup
	errs := make([]error, 3*maxInFlight)
	for i := range errs {
		wg.Go(func() { _, errs[i] = r.Query("a.example.com", dnsmessage.TypeA) })
	}
	wg.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		t.Error(errs[i])
	}
	if testing.Short() {
		return
	}
	for range maxInFlight {
		r.inFlight <- struct{}{}
	}
	if _, err := r.Query("a.example.com", dnsmessage.TypeA); err == nil || !strings.Contains(err.Error(), "too many names") {
		t.Error(err)
	}
}

// TestResolverSix asks a server by IPv6, with a zone, and with one that is wrong.
func TestResolverSix(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6: %v", err)
	} else {
		l.Close()
	}
	u := startUpstream(t, "::1", 0)
	u.set("a.example.com A 8.8.8.8")
	r := resolver(t, "", u)
	for conf, ok := range map[string]bool{"::1": true, "::1%lo": true, "::1%1": true, "fe80::1%nothing": false, "fe80::1%waytoolonganame": false} {
		write(t, r.conf.path, "nameserver "+conf+"\noptions timeout:1 attempts:1\n"+strings.Repeat("#", len(conf)))
		if _, err := r.Query("a.example.com", dnsmessage.TypeA); (err == nil) != ok {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

// TestResolverLeaks holds that no descriptor stays open.
func TestResolverLeaks(t *testing.T) {
	u := startUpstream(t, "127.0.0.1", 0)
	u.set("a.example.com A 8.8.8.8")
	r := resolver(t, "", u)
	count := func() int {
		all, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	r.Query("a.example.com", dnsmessage.TypeA)
	before := count()
	for range 50 {
		r.Query("a.example.com", dnsmessage.TypeA)
		exchangeTCP(netip.MustParseAddr("127.0.0.9"), 1, nil, time.Now().Add(time.Second), nil)
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func FuzzParseReply(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("a.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	for _, answers := range [][]dnsmessage.Resource{nil, {record("a.example.com", 1, &dnsmessage.AResource{})},
		{record("a.example.com", 1, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("b.")}), record("b", 1, &dnsmessage.AResource{})}} {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}, Answers: answers}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint16) {
		q := q
		if kind != 0 {
			q.Type = dnsmessage.Type(kind)
		}
		reply, err := parseReply(b, 7, q)
		if err != nil {
			return
		}
		// What was parsed can be written for the sandbox, and is of the type.
		for _, r := range reply.Answers {
			if r.Header.Type != q.Type && r.Header.Type != dnsmessage.TypeCNAME || r.Header.Class != dnsmessage.ClassINET || r.Header.TTL > maxTTL {
				t.Errorf("%+v in the answer to %+v", r, q)
			}
		}
		out := (&query{Question: q, asked: true, size: 65535}).answer(0, reply.Answers)
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Errorf("%x: %v", out, err)
		}
	})
}
