package network

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// hello has the bytes that Go's TLS client sends first.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		tls.Client(client, c).Handshake() // which the end of the pipe ends
	}()
	server.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// records puts a handshake into records of so many bytes.
func records(handshake []byte, size int) []byte {
	var b []byte
	for part := range slices.Chunk(handshake, size) {
		b = append(b, 22, 3, 1, byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	return b
}

// craft makes a handshake with these extensions.
func craft(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	if extensions != nil {
		all := slices.Concat(extensions...)
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(all))), all...)
	}
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// extension makes an extension.
func extension(kind uint16, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// sni makes the extension server_name, with entries of a kind.
func sni(kind byte, names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, kind, byte(len(n)>>8), byte(len(n)))
		list = append(list, n...)
	}
	return extension(0, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...)...)
}

// TestClientHello reads what a real client sends, whole, byte by byte, and in records
// of every size.
func TestClientHello(t *testing.T) {
	for name, c := range map[string]*tls.Config{
		"a.example.com": {ServerName: "a.example.com"},
		"b.example.com": {ServerName: "b.example.com", MaxVersion: tls.VersionTLS12},
		"":              {ServerName: "192.0.2.1"},
	} {
		whole := hello(t, c)
		want := HasName
		if name == "" {
			want = NoSNI
		}
		for n := range whole {
			if got, state := ClientHello(whole[:n]); state != NeedMore || got != "" {
				t.Fatalf("%d bytes of %d: %q, %s", n, len(whole), got, state)
			}
		}
		for _, size := range []int{1, 2, 3, 5, 100, 1 << 14} {
			b := records(whole[5:], size)
			if len(b) > MaxHello {
				continue
			}
			if got, state := ClientHello(b); state != want || got != name {
				t.Errorf("in records of %d: %q, %s", size, got, state)
			}
			if size < 100 {
				if got, state := ClientHello(b[:len(b)-1]); state != NeedMore || got != "" {
					t.Errorf("in records of %d, without the end: %q, %s", size, got, state)
				}
			}
		}
		// A record that is not complete is waited for.
		cut := slices.Clone(whole)
		cut[4]++
		if got, state := ClientHello(cut); state != NeedMore || got != "" {
			t.Errorf("in a record that is longer: %q, %s", got, state)
		}
		if got, state := ClientHello(append(cut, 0)); state != Bad || got != "" {
			t.Errorf("with a byte behind it in the record: %q, %s", got, state)
		}
		// What is behind it is not its business: TLS 1.3 sends data at once (0-RTT).
		if got, state := ClientHello(append(slices.Clone(whole), 23, 3, 3, 0, 1, 0)); state != want || got != name {
			t.Errorf("with data behind: %q, %s", got, state)
		}
	}
}

func TestClientHelloCrafted(t *testing.T) {
	name := sni(0, "a.example.com")
	tests := []struct {
		what  string
		in    []byte
		name  string
		state State
	}{
		{"nothing", nil, "", NeedMore},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), "", NotTLS},
		{"SSH", []byte("SSH-2.0-x\r\n"), "", NotTLS},
		{"SSL 2", []byte{0x80, 46, 1, 3, 1}, "", NotTLS},
		{"an alert", []byte{21, 3, 1, 0, 2, 1, 0}, "", Bad},
		{"an alert and a name", append([]byte{21, 3, 1, 0, 2, 1, 90}, records(craft(name), 999)...), "", Bad},
		{"another version", []byte{22, 2, 0}, "", Bad},
		{"a byte", []byte{22}, "", NeedMore},
		{"an empty record", []byte{22, 3, 1, 0, 0}, "", Bad},
		{"a long record", []byte{22, 3, 1, 0x40, 1}, "", Bad},
		{"a ServerHello", records([]byte{2, 0, 0, 0}, 9), "", Bad},
		{"name", records(craft(name), 999), "a.example.com", HasName},
		{"name and others", records(craft(extension(10, 0, 2, 0, 29), name, extension(0xfe0d, 0, 0)), 999), "a.example.com", HasName},
		{"upper case", records(craft(sni(0, "A.Example.COM.")), 999), "A.Example.COM.", HasName},
		{"no extensions", records(craft(), 999), "", NoSNI},
		{"no name", records(craft(extension(10, 0, 2, 0, 29)), 999), "", NoSNI},
		{"empty extensions", records(craft([]byte{}), 999), "", NoSNI},
		{"name twice", records(craft(name, sni(0, "b.example.com")), 999), "", Bad},
		{"two names", records(craft(sni(0, "a.example.com", "b.example.com")), 999), "", Bad},
		{"another kind of name", records(craft(sni(1, "a.example.com")), 999), "", Bad},
		{"empty name", records(craft(sni(0, "")), 999), "", Bad},
		{"no names", records(craft(sni(0)), 999), "", Bad},
		{"no list", records(craft(extension(0)), 999), "", Bad},
		{"NUL", records(craft(sni(0, "a.example.com\x00.evil.example")), 999), "", Bad},
		{"a space", records(craft(sni(0, "a example")), 999), "", Bad},
		{"not ASCII", records(craft(sni(0, "\xe2\x84\xaa.example")), 999), "", Bad},
		{"long name", records(craft(sni(0, strings.Repeat("a", 256))), 999), "", Bad},
		{"bytes after the list", records(craft(extension(0, 0, 4, 0, 0, 1, 'a', 0)), 999), "", Bad},
		{"an extension that is too long", records(craft(name[:len(name)-1]), 999), "", Bad},
		{"half an extension", records(craft(name, []byte{0}), 999), "", Bad},
		{"bytes after the handshake", records(append(craft(name), 1), 999), "", Bad},
		{"a second handshake", records(append(craft(name), craft(name)...), 999), "", Bad},
		{"another record within", append(records(craft(name)[:20], 999), 23, 3, 3, 0, 1, 0), "", Bad},
		{"another version within", append(records(craft(name)[:20], 999), 22, 4), "", Bad},
		{"16 MiB", records([]byte{1, 0xff, 0xff, 0xff, 3, 3}, 999), "", Bad},
		{"more than is read", records(craft(extension(21, make([]byte, MaxHello)...)), 1<<14), "", Bad},
		{"many small records", records(craft(extension(21, make([]byte, 4000)...)), 1), "", Bad},
		{"short body", records([]byte{1, 0, 0, 2, 3, 3}, 999), "", Bad},
		{"long session", records([]byte{1, 0, 0, 35, 34: 0, 38: 33}, 999), "", Bad},
	}
	for _, test := range tests {
		if name, state := ClientHello(test.in); name != test.name || state != test.state {
			t.Errorf("%s: %q, %s; want %q, %s", test.what, name, state, test.name, test.state)
		}
	}
}

func TestMatchSNI(t *testing.T) {
	for _, test := range []struct {
		sni, name string
		want      bool
	}{
		{"a.example.com", "a.example.com", true},
		{"A.Example.COM", "a.example.com", true},
		{"a.example.com.", "a.example.com", true},
		{"b.example.com", "a.example.com", false},
		{"a.example.com.evil.example", "a.example.com", false},
		{"xa.example.com", "a.example.com", false},
		{"", "a.example.com", false},
		{"\u212a.example.com", "k.example.com", false},
	} {
		if got := MatchSNI(test.sni, test.name); got != test.want {
			t.Errorf("%q is %q: %v", test.sni, test.name, got)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(records(craft(sni(0, "a.example.com")), 999))
	f.Add(records(craft(sni(0, "a.example.com"), extension(0xfe0d, 1, 2)), 7))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, state := ClientHello(b)
		if (name != "") != (state == HasName) || state == NeedMore && len(b) >= MaxHello {
			t.Errorf("%x: %q, %s", b, name, state)
		}
		// What was decided stays so when more comes, and not before all is there.
		if state != NeedMore {
			if again, s := ClientHello(append(slices.Clone(b), 0)); s != state || again != name {
				t.Errorf("%x: %q, %s; with one more byte %q, %s", b, name, state, again, s)
			}
		}
	})
}

func BenchmarkClientHello(b *testing.B) {
	whole := hello(b, &tls.Config{ServerName: "a.example.com"})
	for b.Loop() {
		if _, state := ClientHello(whole); state != HasName {
			b.Fatal(state)
		}
	}
}
